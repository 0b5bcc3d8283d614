"""`specpress generate`: stream a continuation of a prompt, then print the figures.

They are tokens/s, time to the first token, time a token, drafted tokens accepted. The same seed gives the same text.
"""

import argparse
import sys
from collections.abc import Callable

from specpress.study.registry import SCHEDULES, resolve

EXAMPLE = (
    "Example, after `make paper`: specpress generate --model resources/embedded/models/target "
    "--draft results/embedded/drafts/draft --prompt 'The river rises in the hills'. Leave out --draft to compare."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--model", required=True, metavar="PATH", help="target: a model directory or hub repository")
    parser.add_argument("--draft", metavar="PATH", help="draft model or feature head; without it, no drafter")
    parser.add_argument("--prompt-lookup", action="store_true", help="draft by n-gram lookup instead of a model")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="text to continue; - reads standard input")
    parser.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--gamma", type=int, metavar="N", help="drafted tokens a round, with the constant schedule (default: 4)"
    )
    parser.add_argument(
        "--schedule",
        choices=sorted(SCHEDULES),
        help="default: confidence, which stops once the draft is unsure; constant with --gamma or --prompt-lookup",
    )
    parser.add_argument(
        "--verification",
        choices=("token", "block", "traversal", "recursive"),
        default="token",
        help="default: %(default)s",
    )
    parser.add_argument("--temperature", type=float, default=0.85, help="0 is greedy (default: %(default)s)")
    parser.add_argument("--top-k", type=int, default=0, metavar="K", help="0 keeps all tokens (default: %(default)s)")
    parser.add_argument("--top-p", type=float, default=0.9, metavar="P", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--threads", type=_at_least_one, metavar="N", help="threads torch may use (default: torch's own choice)"
    )


def run(args: argparse.Namespace) -> int:
    """Stream the text, then print the figures."""
    from specpress import SamplingParams, generate, load_model
    from specpress.engine.forward import forward_of

    sampling = SamplingParams(args.temperature, args.top_k, args.top_p, args.seed)
    schedule, drafter = _schedule(args), _drafter(args)  # refused before the target is loaded
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    prompt = _prompt(args.prompt)
    model, tokenizer = load_model(args.model)
    if tokenizer is None:
        raise ValueError(f"{args.model} has no tokenizer: the prompt cannot be read")
    for loaded in (model, *(drafter.models() if drafter else ())):
        forward_of(loaded)  # makes ready what the first forward would have to, before the clock starts
    try:
        generation = generate(
            model,
            tokenizer(prompt, return_tensors="pt", verbose=False).input_ids.to(model.device),
            max_new_tokens=args.max_new_tokens,
            sampling=sampling,
            drafter=drafter,
            schedule=schedule,
            verification=args.verification,
            eos_token_id=tokenizer.eos_token_id,
            on_tokens=_streamer(tokenizer),
        )
    except KeyboardInterrupt:
        print(flush=True)  # the text's last line is open
        raise
    print(f"\n\n{_figures(generation.metrics())}")
    return 0


def _prompt(given: str) -> str:
    """The text to continue, from the command line or from standard input."""
    try:
        if given != "-":
            given.encode()
            return given
        if sys.stdin is None:
            raise ValueError("standard input is closed: give the prompt with --prompt TEXT, or pipe it in")
        return sys.stdin.read()
    except UnicodeError as error:
        raise ValueError(f"the prompt is not UTF-8 (at character {error.start}): convert it, as with iconv") from error


def _drafter(args: argparse.Namespace):
    from specpress import load_model
    from specpress.drafters import DraftModel, FeatureHead, PromptLookup
    from specpress.models.feature_head import feature_layers

    if args.draft and args.prompt_lookup:
        raise ValueError("--draft and --prompt-lookup exclude each other: give one of them")
    if args.draft:
        draft, _ = load_model(args.draft)
        return FeatureHead(draft) if feature_layers(draft) else DraftModel(draft)
    return PromptLookup() if args.prompt_lookup else None


def _schedule(args: argparse.Namespace):
    unsaid = "constant" if args.prompt_lookup or args.gamma is not None else "confidence"
    name = args.schedule or unsaid
    schedule = resolve(SCHEDULES, name, "schedule")
    if name == "constant":
        return schedule(4 if args.gamma is None else args.gamma)
    if args.gamma is not None:
        raise ValueError(f"--gamma is for the constant schedule; {name} chooses its own: leave one of them out")
    return schedule()


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


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return int(text)
