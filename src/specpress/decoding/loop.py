"""The one loop: draft, verify, commit. Autoregressive decoding is the loop without a drafter."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from specpress.decoding.generation import Decoding, Part, Stopwatch
from specpress.decoding.inputs import until_end
from specpress.engine.cache import PreallocatedCache
from specpress.engine.cached_model import CachedModel
from specpress.engine.compression_settings import Compression
from specpress.laws.engines import laws_of
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.schedules.base import Schedule
from specpress.schedules.iteration import Iteration
from specpress.speculation.drafter import Drafter, Proposal
from specpress.speculation.prefill import prefill
from specpress.speculation.rounds import Round, speculate
from specpress.theory.parts import COMPRESSION, DRAFTING, PREFILL, VERIFICATION


class Loop(Decoding):
    """State of one generation. `context` holds prompt and committed tokens; the target's cache lacks the last one.

    The text is on the host, where it is looked at every round; models take from it what they have not read.

    Parameters
    ----------
    compression : of the target's cache
    stop_tokens : tokens that end a row
    padding : Tensor (batch, prompt_len), 1 for real tokens, or None where no row is padded
    """

    def __init__(
        self,
        model: nn.Module,
        input_ids: Tensor,
        max_new_tokens: int,
        drafter: Drafter | None,
        compression: Compression,
        stop_tokens: frozenset[int],
        *,
        sampling: SamplingParams,
        schedule: Schedule,
        verification: str,
        padding: Tensor | None = None,
    ):
        super().__init__(model.device, (model, *(drafter.models() if drafter else ())))
        self.model, self.drafter, self.schedule = model, drafter, schedule
        self.sampling, self.verification = sampling, verification
        self.compression, self.stop_tokens, self.padding = compression, stop_tokens, padding
        self.compresses = compression.cache_budget is not None
        self.prompt_length = input_ids.shape[1]
        self.limit = self.prompt_length + max_new_tokens
        self.context = torch.empty(input_ids.shape[0], self.limit, dtype=torch.long)
        self.context[:, : self.prompt_length] = input_ids
        self.length = self.prompt_length
        self.randomness = Randomness(sampling.seed)

    def parts(self, on_tokens: Callable[[Tensor], None] = lambda tokens: None) -> Iterator[Part]:
        """Prefill, then rounds until the limit or the end of text."""
        watch = Stopwatch(self.device)
        if self.drafter:
            self.drafter.start(self.model, self.sampling, self.randomness, self.limit)
        self.target = CachedModel(self.model, self.limit, self.padding)
        prompt = self.context[:, : self.length]
        press, budget = self.compression.press, self.compression.cache_budget
        logits = prefill(self.target, prompt, press=press, budget=budget, drafter=self.drafter)
        self._commit(self._drawn(logits), on_tokens)
        read = watch.part(PREFILL, prompt.numel())
        self.trace.prefill_seconds = read.seconds
        yield read
        while not self._done():
            yield from self._round(on_tokens)
        self._describe_cache(self.target.cache)

    def _describe_cache(self, cache: PreallocatedCache) -> None:
        self.trace.kv_bytes = cache.nbytes
        self.trace.layer_slots = [layer.slots for layer in cache.layers]
        self.trace.layer_kv_bytes = [layer.nbytes for layer in cache.layers]

    def _round(self, on_tokens: Callable[[Tensor], None]) -> Iterator[Part]:
        """Draft up to gamma tokens, verify them in one forward, commit what stands."""
        watch, proposal = Stopwatch(self.device), None
        if self.compression.due(self.target.length, self.prompt_length):
            slots = self.target.cache.slots
            self.target.compress(self.compression.press, self.compression.cache_budget, decoding=True)
            yield watch.part(COMPRESSION, slots)
            watch.start()
        depth = self._depth() if self.drafter else 0
        gamma = self._gamma(depth)
        if gamma:
            proposal = self.drafter.propose(self.context[0, : self.length], gamma, self.schedule.stop).up_to(depth)
            yield watch.part(DRAFTING, len(proposal.tokens))
            watch.start()
        round_ = self._advance(proposal)
        before = self.length
        self._commit(round_.tokens.view(len(self.context), -1), on_tokens)
        proposed = len(proposal.tokens) if proposal else 0
        last = watch.part(VERIFICATION, len(self.context) * (proposed + 1))
        iteration = Iteration(
            gamma=gamma,
            proposed=proposed,
            accepted=round_.accepted,
            committed=self.length - before,
            rejections=int(round_.cut),
            seconds=watch.total,
            draft_seconds=watch.of[DRAFTING],
            slots=self.target.cache.slots,
            compress_seconds=watch.of[COMPRESSION],
        )
        self.trace.iterations.append(iteration)
        self.schedule.learn(iteration)
        yield last

    def _depth(self) -> int:
        """Drafted tokens that can be kept now: up to the limit, and to where the cache is compressed next."""
        room = self.compression.room(self.target.length, self.prompt_length)
        return min(self.limit - self.length - 1, room - 1)

    def _gamma(self, depth: int) -> int:
        """Tokens to draft: what the schedule asks for; of a path no more than can be kept."""
        return self.schedule.gamma if depth and self.drafter.branches else min(self.schedule.gamma, depth)

    def _advance(self, proposal: Proposal | None) -> Round:
        """Feed the last committed token and the proposal; the round's tokens are (n,), without a drafter (batch,)."""
        if self.drafter is None:
            last = self.context[:, self.length - 1 : self.length]
            return Round((), self._drawn(self.target.feed(last)).flatten(), ())
        context = self.context[0, : self.length]
        return speculate(
            self.target, self.drafter, context, proposal, self.sampling, self.randomness, self.verification
        )

    def _drawn(self, logits: Tensor) -> Tensor:
        """A token of each row, (batch, 1), from its last logits; logits: (batch, n, vocabulary)."""
        return laws_of(logits[:, -1], self.sampling, self.target.head_tokens).take(self.randomness)[:, None]

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

    def rewind_to(self, length: int) -> None:
        """Take back committed tokens until the context has `length`, the prompt included; O(1), nothing is copied.

        For decoding without a drafter and without a press while decoding; what comes next is drawn anew.
        """
        self.length = length
        self.target.rollback_to(length - 1)

    @property
    def new(self) -> int:
        """See `Decoding.new`."""
        return self.length - self.prompt_length

    def tokens(self) -> Tensor:
        """See `Decoding.tokens`."""
        return self.context[:, self.prompt_length : self.length].clone()
