"""Generate: what is asked for is checked, then the loop that serves it runs to its end, or is handed out."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from specpress.decoding.batches import BatchLoop
from specpress.decoding.generation import Decoding, Generation
from specpress.decoding.inputs import check_context, check_family, check_prompt, check_tokens, left_padding, token_set
from specpress.decoding.loop import Loop
from specpress.decoding.models import check_lengths, check_model
from specpress.engine.compression_settings import Compression, check_even
from specpress.laws.sampling import SamplingParams
from specpress.schedules.base import Constant, Schedule
from specpress.speculation.drafter import Drafter
from specpress.speculation.verification import OF_PATHS, RULES, refusal


def generate(
    model: nn.Module,
    input_ids: Tensor,
    *,
    max_new_tokens: int,
    sampling: SamplingParams = SamplingParams(),  # noqa: B008 (frozen)
    drafter: Drafter | None = None,
    schedule: Schedule | None = None,
    verification: str = "token",
    press=None,
    cache_budget: int | None = None,
    compression_interval: int | None = None,
    eos_token_id: int | Iterable[int] | None = None,
    attention_mask: Tensor | None = None,
    on_tokens: Callable[[Tensor | list[Tensor]], None] | None = None,
) -> Generation:
    """Generate up to `max_new_tokens` tokens after the prompt.

    Parameters
    ----------
    model : any transformers causal LM of the families llama, gpt_neox, gpt2, mistral, phi3, qwen2 and qwen3
        Weights changed since the last call are noticed where autograd sees the change, as under `torch.no_grad()`. It
        does not see what is written through `.data`: that may go unnoticed, and the text be that of the old weights.
    input_ids : LongTensor (batch, prompt_len), on any device; with a drafter each row accepts its own tokens
    max_new_tokens : int, never exceeded
    sampling : SamplingParams, shared by draft and target
    drafter : proposes tokens; None decodes autoregressively
    schedule : how many tokens to draft; by default constantly the drafter's own number of nodes, which is 4 for most.
        Drafter and schedule belong to this call.
        In a batch every row has a copy of the schedule, which learns from the rounds of that row alone: past rounds
        decide its gamma, so every row follows the law it has alone.
    verification : "token" or "block" for drafters that propose paths; "traversal" or "recursive" for any, also trees
    press : a kvpress press that compresses the target's cache after the prompt (the output law is then that of
        autoregressive decoding on the compressed cache); None keeps all slots
    cache_budget, compression_interval : compress while decoding too: to `cache_budget` slots after the prompt and after
        every `compression_interval` tokens (64 by default); see `specpress.presses.Compression`
    eos_token_id : end-of-text token(s) to stop after; None never stops
    attention_mask : Tensor (batch, prompt_len), 0 where a row is padded on the left
    on_tokens : called with the new tokens of each round as they are committed, LongTensor (batch, n) on the host; for a
        batch with a drafter, whose rows accept tokens of their own, a list of LongTensor (n,), one a row, empty once it
        has ended

    Returns
    -------
    Generation

    Raises
    ------
    ValueError
        For input that cannot be decoded: an empty prompt, one longer than the model's context, vocabularies that
        differ, an unknown verification, a press or drafter that cannot do what is asked of it, logits that are no
        numbers.
    """
    decoding = prepare(
        model,
        input_ids,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        drafter=drafter,
        schedule=schedule,
        verification=verification,
        press=press,
        cache_budget=cache_budget,
        compression_interval=compression_interval,
        eos_token_id=eos_token_id,
        attention_mask=attention_mask,
    )
    generation = decoding.run(on_tokens) if on_tokens else decoding.run()
    return generation.on(input_ids.device)


def prepare(
    model: nn.Module,
    input_ids: Tensor,
    *,
    max_new_tokens: int,
    sampling: SamplingParams = SamplingParams(),  # noqa: B008 (frozen)
    drafter: Drafter | None = None,
    schedule: Schedule | None = None,
    verification: str = "token",
    press=None,
    cache_budget: int | None = None,
    compression_interval: int | None = None,
    eos_token_id: int | Iterable[int] | None = None,
    attention_mask: Tensor | None = None,
) -> Decoding:
    """The generation that `generate` runs, before its first part: to be advanced part by part.

    Parameters and errors are those of `generate`.
    """
    _check(model, input_ids, max_new_tokens, drafter, schedule, verification)
    compression, stop_tokens = Compression(press, cache_budget, compression_interval), token_set(eos_token_id)
    padding = left_padding(input_ids, attention_mask)
    if press is not None and padding is not None and drafter is None:
        raise ValueError(
            "without a drafter a press takes rows of equal length: left padding would be compressed as if it were "
            "text; with a drafter every row is compressed on its own"
        )
    own_ways = drafter is not None and (len(input_ids) > 1 or padding is not None)
    prompts = _rows(input_ids, padding)
    drafts = drafter.models() if drafter else ()
    _check_presses(model, compression, drafter, min(map(len, prompts)), own_ways)
    pressed = [compressed for compressed, _ in _compressions(model, compression, drafter)]
    check_lengths(model, drafts, [len(prompt) for prompt in prompts], max_new_tokens, drafter is not None, pressed)
    schedule = schedule or Constant(drafter.nodes if drafter else Drafter.nodes)
    settings = {"sampling": sampling, "schedule": schedule, "verification": verification}
    if own_ways:
        rows = drafter.rows(len(prompts))
        return BatchLoop(model, prompts, max_new_tokens, rows, compression, stop_tokens, **settings)
    return Loop(model, input_ids, max_new_tokens, drafter, compression, stop_tokens, **settings, padding=padding)


def _rows(input_ids: Tensor, padding: Tensor | None) -> list[Tensor]:
    """The prompts of a batch without their padding, LongTensor (n,) each, on the host."""
    if padding is None:
        return list(input_ids.cpu())
    return [row[mask.bool()] for row, mask in zip(input_ids.cpu(), padding, strict=True)]


def _check(
    model: nn.Module,
    input_ids: Tensor,
    max_new_tokens: int,
    drafter: Drafter | None,
    schedule: Schedule | None,
    verification: str,
) -> None:
    """Refuse what cannot be decoded, before any work."""
    check_model(model)
    check_prompt(model, input_ids, max_new_tokens)
    if not isinstance(drafter, Drafter | None):
        raise ValueError(f"drafter must be a Drafter, such as DraftModel(model), got {_named(drafter)}")
    if not isinstance(schedule, Schedule | None):
        raise ValueError(f"schedule must be a Schedule, such as Constant(4), got {_named(schedule)}")
    if verification not in RULES:
        raise ValueError(f"unknown verification {verification!r}; known: {', '.join(RULES)}")
    if drafter is not None and drafter.branches and verification in OF_PATHS:
        raise ValueError(refusal(verification))
    if drafter is not None and schedule is not None and schedule.of_trees and not drafter.branches:
        raise ValueError(
            f"{type(schedule).__name__} sizes trees, and {type(drafter).__name__} proposes paths: use Optimal, or "
            "another drafter"
        )
    if drafter is not None and schedule is not None and schedule.of_paths and drafter.branches:
        raise ValueError(
            f"{type(schedule).__name__} counts on paths, and {type(drafter).__name__} proposes trees: use OptimalTree, "
            "or another schedule"
        )
    for draft in drafter.models() if drafter else ():
        check_model(draft, "the draft model")
        check_tokens(draft, input_ids, "the draft model's")
        check_context(draft, input_ids.shape[1], max_new_tokens, "the draft model's")


def _named(thing: object) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"an object of {type(thing).__name__}"


def _compressions(model: nn.Module, compression: Compression, drafter: Drafter | None) -> list:
    """The models whose caches are compressed, the target's and the drafter's, each with its `Compression`."""
    runs = [(model, compression)] if compression.press is not None else []
    return runs + [(draft or model, how) for draft, how in (drafter.compressions() if drafter else ())]


def _check_presses(
    model: nn.Module, compression: Compression, drafter: Drafter | None, prompt: int, own_ways: bool
) -> None:
    """Refuse presses, the target's and the drafter's, that cannot compress a prompt of `prompt` tokens.

    own_ways : whether several rows take, and take back, tokens of their own
    """
    for compressed, how in _compressions(model, compression, drafter):
        check_family(compressed)
        how.check_prompt(prompt)
        if own_ways:
            check_even(how.press)
