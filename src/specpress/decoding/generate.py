"""The one loop: draft, verify, commit. Autoregressive decoding is the loop without a drafter."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from specpress.decoding.batches import BatchLoop
from specpress.decoding.inputs import check_context, check_family, check_prompt, left_padding, token_set, until_end
from specpress.decoding.trace import Trace
from specpress.engine.attention import decode_attention
from specpress.engine.cache import PreallocatedCache
from specpress.engine.cached_model import CachedModel
from specpress.engine.compression_settings import Compression, check_even
from specpress.hardware.clock import clock
from specpress.laws.law import Laws, draw
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.schedules.base import Constant, Schedule
from specpress.schedules.iteration import Iteration
from specpress.speculation.drafter import Drafter, Proposal
from specpress.speculation.prefill import prefill
from specpress.speculation.rounds import speculate
from specpress.speculation.verification import METHODS


@dataclass(frozen=True)
class Generation:
    """What `generate` returns.

    tokens : LongTensor (batch, new), the new tokens only; rows that ended early repeat their end-of-text token.
    trace : Trace, per-iteration proposed, accepted, gamma, seconds, cache slots.
    """

    tokens: Tensor
    trace: Trace = field(repr=False)

    def metrics(self) -> dict:
        """ttft_s, tpot_ms, tokens_per_s, acceptance_rate, tokens_per_iteration, kv_bytes; see `Trace.metrics`."""
        return self.trace.metrics(self.tokens.shape[1])


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
    model : any transformers Llama or GPT-NeoX causal LM
    input_ids : LongTensor (batch, prompt_len); with a drafter each row accepts its own tokens
    max_new_tokens : int, never exceeded
    sampling : SamplingParams, shared by draft and target
    drafter : proposes tokens; None decodes autoregressively
    schedule : how many tokens to draft; Constant(4) by default. Drafter and schedule belong to this call.
        For a batch the rows share one gamma, and the schedule learns from the rounds of one row, each in its turn:
        past rounds decide it, so every row follows the law it has alone.
    verification : "token" or "block"
    press : a kvpress press that compresses the target's cache after the prompt (the output law is then that of
        autoregressive decoding on the compressed cache); None keeps all slots
    cache_budget, compression_interval : compress while decoding too: to `cache_budget` slots after the prompt and after
        every `compression_interval` tokens (64 by default); see `specpress.presses.Compression`
    eos_token_id : end-of-text token(s) to stop after; None never stops
    attention_mask : Tensor (batch, prompt_len), 0 where a row is padded on the left
    on_tokens : called with the new tokens of each round as they are committed, LongTensor (batch, n); for a batch with
        a drafter, whose rows accept tokens of their own, a list of LongTensor (n,), one a row, empty once it has ended

    Returns
    -------
    Generation

    Raises
    ------
    ValueError
        For input that cannot be decoded: an empty prompt, one longer than the model's context, vocabularies that
        differ, an unknown verification, a press or drafter that cannot do what is asked of it.
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
    _check_presses(model, compression, drafter, min(map(len, prompts)), own_ways)
    if own_ways:
        settings = {"sampling": sampling, "schedule": schedule or Constant(4), "verification": verification}
        rows = drafter.rows(len(prompts))
        batch = BatchLoop(model, prompts, max_new_tokens, rows, compression, stop_tokens, **settings)
        with decode_attention(model, *drafter.models()):
            return Generation(*batch.run(on_tokens or _nobody))
    loop = _Loop(model, input_ids, max_new_tokens, sampling, drafter, schedule or Constant(4), verification)
    loop.stop_tokens, loop.padding, loop.compression = stop_tokens, padding, compression
    with decode_attention(model, *(drafter.models() if drafter else ())):
        return loop.run(on_tokens or _nobody)


def _nobody(tokens: Tensor | list[Tensor]) -> None:
    """Follows nothing."""


class _Loop:
    """State of one generation. `context` holds prompt and committed tokens; the target's cache lacks the last one."""

    padding: Tensor | None = None
    compression = Compression()
    stop_tokens: frozenset[int] = frozenset()

    def __init__(self, model, input_ids, max_new_tokens, sampling, drafter, schedule, verification):
        self.model, self.drafter, self.schedule = model, drafter, schedule
        self.sampling, self.verification = sampling, verification
        self.prompt_length = input_ids.shape[1]
        self.limit = self.prompt_length + max_new_tokens
        self.context = input_ids.new_empty(input_ids.shape[0], self.limit)
        self.context[:, : self.prompt_length] = input_ids
        self.length = self.prompt_length
        self.device = input_ids.device
        self.randomness = Randomness(sampling.seed)
        self.trace = Trace()

    def run(self, on_tokens: Callable[[Tensor], None]) -> Generation:
        """Prefill, then iterate until the limit or the end of text."""
        started = clock(self.device)
        if self.drafter:
            self.drafter.start(self.model, self.sampling, self.randomness, self.limit)
        self.target = CachedModel(self.model, self.limit, self.padding)
        prompt = self.context[:, : self.length]
        press, budget = self.compression.press, self.compression.cache_budget
        logits = prefill(self.target, prompt, press=press, budget=budget, drafter=self.drafter)
        self._commit(self._drawn(logits), on_tokens)
        self.trace.prefill_seconds = clock(self.device) - started
        while not self._done():
            self._iterate(on_tokens)
        self._describe_cache(self.target.cache)
        return Generation(self._output(), self.trace)

    def _describe_cache(self, cache: PreallocatedCache) -> None:
        self.trace.kv_bytes = cache.nbytes
        self.trace.layer_slots = [layer.slots for layer in cache.layers]
        self.trace.layer_kv_bytes = [layer.nbytes for layer in cache.layers]

    def _iterate(self, on_tokens: Callable[[Tensor], None]) -> None:
        """One round: draft up to gamma tokens, verify them in one forward, commit what stands."""
        started = clock(self.device)
        if self.compression.due(self.target.length, self.prompt_length):
            self.target.compress(self.compression.press, self.compression.cache_budget, decoding=True)
        gamma = self._gamma() if self.drafter else 0
        proposal = None
        if gamma:
            proposal = self.drafter.propose(self.context[0, : self.length], gamma, self.schedule.stop)
        drafted = clock(self.device)
        accepted, tokens = self._advance(proposal)
        before = self.length
        self._commit(tokens, on_tokens)
        proposed = len(proposal.tokens) if proposal else 0
        finished = clock(self.device)
        iteration = Iteration(
            gamma=gamma,
            proposed=proposed,
            accepted=accepted,
            committed=self.length - before,
            seconds=finished - started,
            draft_seconds=drafted - started,
            slots=self.target.cache.slots,
        )
        self.trace.iterations.append(iteration)
        if proposed:
            self.schedule.update(iteration)

    def _gamma(self) -> int:
        """Tokens to draft: what the schedule asks for, up to the limit and to where the cache is compressed next."""
        room = self.compression.room(self.target.length, self.prompt_length)
        return min(self.schedule.gamma, self.limit - self.length - 1, room - 1)

    def _advance(self, proposal: Proposal | None) -> tuple[int, Tensor]:
        """Feed the last committed token and the proposal; returns tokens accepted and those to commit, (batch, n)."""
        if self.drafter is None:
            last = self.context[:, self.length - 1 : self.length]
            return 0, self._drawn(self.target.feed(last))
        context = self.context[0, : self.length]
        accepted, tokens, _ = speculate(
            self.target, self.drafter, context, proposal, self.sampling, self.randomness, self.verification
        )
        return accepted, tokens[None]

    def _drawn(self, logits: Tensor) -> Tensor:
        """A token of each row, (batch, 1), from its last logits; logits: (batch, n, vocabulary)."""
        return self.context.new_tensor(draw(Laws(logits[:, -1], self.sampling), self.randomness))[:, None]

    def _commit(self, tokens: Tensor, on_tokens: Callable[[Tensor], None]) -> None:
        """Append tokens, (batch, n), up to the end of text; rows that have ended stay ended."""
        if self.stop_tokens:
            tokens = self._cut_at_end(tokens)
        self.context[:, self.length : self.length + tokens.shape[1]] = tokens
        self.length += tokens.shape[1]
        on_tokens(tokens)

    def _cut_at_end(self, tokens: Tensor) -> Tensor:
        """A single row is cut after its end-of-text token; in a batch, rows that have ended repeat it."""
        if tokens.shape[0] == 1:
            return until_end(tokens[0], self.stop_tokens)[None]
        if self.length > self.prompt_length:
            last = self.context[:, self.length - 1 : self.length]
            tokens = torch.where(self._is_stop(last), last, tokens)
        return tokens

    def _is_stop(self, tokens: Tensor) -> Tensor:
        return torch.isin(tokens, tokens.new_tensor(sorted(self.stop_tokens)))

    def _done(self) -> bool:
        if self.length >= self.limit:
            return True
        return bool(self.stop_tokens) and bool(self._is_stop(self.context[:, self.length - 1]).all())

    def _output(self) -> Tensor:
        return self.context[:, self.prompt_length : self.length].clone()


def _rows(input_ids: Tensor, padding: Tensor | None) -> list[Tensor]:
    """The prompts of a batch without their padding, LongTensor (n,) each."""
    if padding is None:
        return list(input_ids)
    return [row[mask.bool()] for row, mask in zip(input_ids, padding, strict=True)]


def _check(
    model: nn.Module,
    input_ids: Tensor,
    max_new_tokens: int,
    drafter: Drafter | None,
    schedule: Schedule | None,
    verification: str,
) -> None:
    """Refuse what cannot be decoded, before any work."""
    check_prompt(model, input_ids, max_new_tokens)
    if not isinstance(drafter, Drafter | None):
        raise ValueError(f"drafter must be a Drafter, such as DraftModel(model), got {_named(drafter)}")
    if not isinstance(schedule, Schedule | None):
        raise ValueError(f"schedule must be a Schedule, such as Constant(4), got {_named(schedule)}")
    if verification not in METHODS:
        raise ValueError(f"unknown verification {verification!r}; known: {', '.join(METHODS)}")
    for draft in drafter.models() if drafter else ():
        check_context(draft, input_ids.shape[1], max_new_tokens, "the draft model's")


def _named(thing: object) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"an object of {type(thing).__name__}"


def _check_presses(
    model: nn.Module, compression: Compression, drafter: Drafter | None, prompt: int, own_ways: bool
) -> None:
    """Refuse presses, the target's and the drafter's, that cannot compress a prompt of `prompt` tokens.

    own_ways : whether several rows take, and take back, tokens of their own
    """
    runs = [(model, compression)] if compression.press is not None else []
    runs += [(draft or model, Compression(press)) for draft, press in (drafter.presses() if drafter else ())]
    for compressed, how in runs:
        check_family(compressed)
        how.check_prompt(prompt)
        if own_ways:
            check_even(how.press)
