"""`specpress generate`: stream a continuation of a prompt, then print the figures.

They are tokens/s, time to the first token, time a token, drafted tokens accepted; with --compare, the speed-up over the
plain baseline on that prompt. The same seed gives the same text.
"""

import argparse
from collections.abc import Callable

from specpress.cli import method, prompt_input
from specpress.cli.method import Loaded
from specpress.cli.whole import at_least_one

EXAMPLE = (
    "Example, after `make paper`: specpress generate --model resources/embedded/models/target "
    "--draft results/embedded/drafts/draft --prompt 'The river rises in the hills' --compare. With a press: "
    "--press snapkv --ratio 0.5. Any drafter of a study: --drafter '{name: prompt_lookup, max_ngram: 2}'."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--model", required=True, metavar="PATH", help="target: a model directory or hub repository")
    prompt_input.add_arguments(parser)
    method.add_arguments(parser)
    group = parser.add_argument_group("decoding")
    group.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="default: %(default)s")
    group.add_argument("--temperature", type=float, default=0.85, help="0 is greedy (default: %(default)s)")
    group.add_argument("--top-k", type=int, default=0, metavar="K", help="0 keeps all tokens (default: %(default)s)")
    group.add_argument("--top-p", type=float, default=0.9, metavar="P", help="default: %(default)s")
    group.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    group.add_argument(
        "--threads", type=at_least_one, metavar="N", help="threads torch may use (default: torch's own choice)"
    )
    group.add_argument(
        "--compare",
        action="store_true",
        help="then duel with autoregressive decoding on the full cache, and print the speed-up with its 95%% interval",
    )


def run(args: argparse.Namespace) -> int:
    """Stream each text and print its figures; at the end, if asked for, the comparison."""
    arm, asked = method.arm_from(args), prompt_input.talks(args)  # refused before torch is imported
    from specpress import SamplingParams
    from specpress.experiments.duels.arms import build
    from specpress.models.tokenizers import ends_of_text

    sampling = SamplingParams(args.temperature, args.top_k, args.top_p, args.seed)
    models = Loaded()
    _ready(arm, models, args)
    model, tokenizer = models.pair(args.model)
    options = {
        "sampling": sampling,
        "max_new_tokens": args.max_new_tokens,
        "eos_token_id": ends_of_text(model, tokenizer),
    }
    _check_lengths(asked, model, tokenizer, args.max_new_tokens)
    prompts = []
    for talk in asked:
        for turn, tokens in enumerate(talk.prompts(tokenizer), start=1):
            if talk.title:
                print(f"--- {talk.title}, turn {turn}")
            talk.answers.append(_stream(arm, models, tokens, tokenizer, options))
            prompts.append(tokens)
    if args.compare:
        from specpress.experiments.duels.beside import beside_baseline

        print(_comparison(beside_baseline(build(arm, models), model, prompts, **options), len(prompts)))
    return 0


def _check_lengths(asked: list, model, tokenizer, new: int) -> None:
    """Refuse questions too long for the model before the first is answered; later turns grow by answers."""
    from specpress.decoding.inputs import check_context

    for talk in asked:
        first = len(next(talk.prompts(tokenizer)))
        try:
            check_context(model, first, new, "the model's")
        except ValueError as error:
            raise ValueError(f"{talk.title}: {error}" if talk.title else str(error)) from None


def _ready(arm: dict, models: Loaded, args: argparse.Namespace) -> None:
    """Load the models, the drafter's first, and make them ready: what is wrong is said before the clock starts."""
    from specpress.engine.forward import forward_of
    from specpress.experiments.duels.arms import parts_of
    from specpress.hardware.threads import use_threads
    from specpress.models.feature_head import feature_layers
    from specpress.speculation.verification import METHODS

    if arm.get("verification", METHODS[0]) not in METHODS:
        raise ValueError(f"--verification: unknown rule {arm['verification']!r}; known: {', '.join(METHODS)}")
    if args.threads:
        use_threads(args.threads)
    if args.draft is not None and feature_layers(models.model(args.draft)):
        arm["drafter"] = {"name": "feature_head", "head": args.draft}
    try:
        drafter = parts_of(arm, models).get("drafter")
    except TypeError as error:  # an option that a class does not take, or lacks
        raise ValueError(f"{str(error).replace('.__init__()', '')}; specpress list names what there is") from error
    if drafter is not None and drafter.branches and "verification" not in arm:
        arm["verification"] = "traversal"
    model, tokenizer = models.pair(args.model)
    if tokenizer is None:
        raise ValueError(f"{args.model} has no tokenizer: the prompt cannot be read")
    for loaded in (model, *(drafter.models() if drafter else ())):
        forward_of(loaded)


def _stream(arm: dict, models: Loaded, tokens: list[int], tokenizer, options: dict) -> str:
    """Print a continuation as it comes, then its figures; the text."""
    import torch

    from specpress import generate
    from specpress.experiments.duels.arms import parts_of

    model = models.model(arm["model"])
    try:
        generation = generate(
            model,
            torch.tensor([tokens], dtype=torch.long, device=model.device),
            **parts_of(arm, models),
            **options,
            on_tokens=_streamer(tokenizer),
        )
    except KeyboardInterrupt:
        print(flush=True)  # the text's last line is open
        raise
    print(f"\n\n{_figures(generation.metrics())}")
    return tokenizer.decode(generation.tokens[0], skip_special_tokens=True)


def _streamer(tokenizer) -> Callable:
    """Prints text as its tokens come; a character whose bytes are not complete yet waits for the rest."""
    tokens: list[int] = []
    shown = 0

    def show(new) -> None:
        nonlocal shown
        tokens.extend(new[0].tolist())
        text = tokenizer.decode(tokens, skip_special_tokens=True).rstrip("\ufffd")
        print(text[shown:], end="", flush=True)
        shown = max(shown, len(text))

    return show


def _figures(metrics: dict) -> str:
    """One line: tokens, tokens/s, TTFT, TPOT and, with a drafter, acceptance and tokens an iteration."""
    parts = [f"{metrics['n_tokens']} tokens", f"{metrics['tokens_per_s']:.1f} tokens/s"]
    parts.append(f"first token after {1e3 * metrics['ttft_s']:.0f} ms")
    if metrics["tpot_ms"] is not None:
        parts.append(f"{metrics['tpot_ms']:.1f} ms a token")
    if metrics["acceptance_rate"] is not None:
        parts.append(f"{metrics['acceptance_rate']:.0%} of drafted tokens accepted")
        parts.append(f"{metrics['tokens_per_iteration']:.2f} tokens an iteration")
    parts.append(f"KV cache {metrics['kv_bytes'] / 2**20:.1f} MiB")
    return ", ".join(parts)


def _comparison(found, prompts: int) -> str:
    """One line about a speed-up and its interval, or why there is none."""
    if found is None:
        return "no speed-up: every text ended after its first token"
    where = "on this prompt" if prompts == 1 else f"on these {prompts} prompts"
    if found.low is None:
        return f"speed-up over plain decoding {where}: {found.value:.2f} (no interval: {found.note})"
    return f"speed-up over plain decoding {where}: {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
