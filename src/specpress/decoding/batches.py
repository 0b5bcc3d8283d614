"""Speculative decoding of a batch: each row accepts its own tokens, one forward of the target verifies all rows.

The rounds are those of `specpress.decoding.loop` with lists over rows. Rows are independent: their laws, drafts and
uniforms are their own, and so is their schedule, which learns from the rounds of its row alone: each row's law is that
of decoding it alone.
"""

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from specpress.decoding.generation import Decoding, Generation, Part, Stopwatch
from specpress.decoding.inputs import until_end
from specpress.decoding.trace import Trace
from specpress.engine.cached_model import CachedModel
from specpress.engine.compression_settings import Compression
from specpress.laws.law import Laws
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.schedules.base import Schedule
from specpress.schedules.iteration import Iteration
from specpress.speculation.drafter import Proposal, RowByRow
from specpress.speculation.prefill import read_rows
from specpress.speculation.rounds import speculate_rows
from specpress.theory.parts import COMPRESSION, DRAFTING, PREFILL, VERIFICATION


class BatchLoop(Decoding):
    """State of one generation of several rows. `contexts` hold prompts and committed tokens, LongTensor (n,) each.

    Parameters
    ----------
    prompts : LongTensor (n,) each, of any lengths, on the host
    drafter : `Drafter.rows` of the batch
    compression : of each row's cache, on a schedule of its own
    stop_tokens : tokens that end a row
    schedule : each row gets a copy; `stop`, which looks at one token, is the same for all, but for schedules of trees,
        which count the nodes that `stop` is told of: there every row has its own

    `row_traces` : of each row, what `trace` sums up
    """

    def __init__(
        self,
        model: nn.Module,
        prompts: Sequence[Tensor],
        max_new_tokens: int,
        drafter: RowByRow,
        compression: Compression,
        stop_tokens: frozenset[int],
        *,
        sampling: SamplingParams,
        schedule: Schedule,
        verification: str,
    ):
        super().__init__(model.device, (model, *drafter.models()))
        self.model, self.drafter, self.stop = model, drafter, schedule.stop
        self.schedules = [copy.deepcopy(schedule) for _ in prompts]
        self.row_traces = [Trace() for _ in prompts]
        self.sampling, self.verification = sampling, verification
        self.compression, self.stop_tokens = compression, stop_tokens
        self.compresses = compression.cache_budget is not None
        self.contexts = list(prompts)
        self.prompt_lengths = [len(prompt) for prompt in prompts]
        self.limits = [length + max_new_tokens for length in self.prompt_lengths]
        self.randomness = Randomness(sampling.seed)

    def parts(self, on_tokens: Callable[[list[Tensor]], None] = lambda tokens: None) -> Iterator[Part]:
        """Prefill, then rounds until every row has ended."""
        watch = Stopwatch(self.device)
        self.drafter.start(self.model, self.sampling, self.randomness, self.limits)
        press, budget = self.compression.press, self.compression.cache_budget
        cached = CachedModel(self.model, max(self.limits))
        self.target, logits = read_rows(cached, self.contexts, press=press, budget=budget, drafter=self.drafter)
        first = Laws(logits, self.sampling, self.target.head_tokens).take(self.randomness)
        self._commit(list(first[:, None]), on_tokens)
        read = watch.part(PREFILL, sum(self.prompt_lengths))
        self.trace.prefill_seconds = read.seconds
        yield read
        while rows := [r for r in range(len(self.contexts)) if self._open(r)]:
            yield from self._round(rows, on_tokens)
        cache = self.target.cache
        self.trace.kv_bytes, layers = cache.nbytes, len(cache.layers)
        self.trace.layer_slots = [max(cache.slots)] * layers
        self.trace.layer_kv_bytes = [cache.nbytes // layers] * layers
        for trace, slots in zip(self.row_traces, cache.slots, strict=True):
            trace.kv_bytes = cache.nbytes * slots // sum(cache.slots)

    def _open(self, r: int) -> bool:
        context = self.contexts[r]
        return len(context) < self.limits[r] and int(context[-1]) not in self.stop_tokens

    def _round(self, rows: list[int], on_tokens: Callable[[list[Tensor]], None]) -> Iterator[Part]:
        """The open rows draft, the target verifies them in one forward, each commits what stands."""
        watch = Stopwatch(self.device)
        if due := self._due(rows):
            slots = sum(self.target.cache.slots[r] for r in due)
            self.target.compress(self.compression.press, self.compression.cache_budget, decoding=True, rows=due)
            yield watch.part(COMPRESSION, slots)
            watch.start()
        depths = [self._depth(r) if r in rows else 0 for r in range(len(self.contexts))]
        gammas = [self._gamma(r, depth) for r, depth in enumerate(depths)]
        drafted = self._drafted(gammas)
        proposals = [proposal.up_to(depth) for proposal, depth in zip(drafted, depths, strict=True)]
        if any(gammas):
            yield watch.part(DRAFTING, sum(len(proposal.tokens) for proposal in proposals))
            watch.start()
        rounds = speculate_rows(
            self.target, self.drafter, self.contexts, proposals, rows, self.sampling, self.randomness, self.verification
        )
        new = [context[:0] for context in self.contexts]
        for r, round_ in zip(rows, rounds, strict=True):
            new[r] = round_.tokens
        committed = self._commit(new, on_tokens)
        last = watch.part(VERIFICATION, sum(len(proposals[r].tokens) + 1 for r in rows))
        iterations = [
            Iteration(
                gamma=gammas[r],
                proposed=len(proposals[r].tokens),
                accepted=round_.accepted,
                committed=committed[r],
                rejections=int(round_.cut),
                seconds=watch.total,
                draft_seconds=watch.of[DRAFTING],
                slots=self.target.cache.slots[r],
                compress_seconds=watch.of[COMPRESSION],
            )
            for r, round_ in zip(rows, rounds, strict=True)
        ]
        for r, iteration in zip(rows, iterations, strict=True):
            self.row_traces[r].iterations.append(iteration)
            self.schedules[r].learn(iteration)
        self.trace.iterations.append(_summed(iterations, max(self.target.cache.slots)))
        yield last

    def _drafted(self, gammas: list[int]) -> list[Proposal]:
        """What is proposed for each row; under a schedule of trees one row after the other, each told to its own."""
        if not self.schedules[0].of_trees:
            return self.drafter.propose(self.contexts, gammas, self.stop)
        drafted = []
        for r, schedule in enumerate(self.schedules):
            of_row = [gamma if row == r else 0 for row, gamma in enumerate(gammas)]
            drafted.append(self.drafter.propose(self.contexts, of_row, schedule.stop)[r])
        return drafted

    def _due(self, rows: list[int]) -> list[int]:
        """The rows whose caches are to be compressed now."""
        return [r for r in rows if self.compression.due(self.target.lengths[r], self.prompt_lengths[r])]

    def _depth(self, r: int) -> int:
        """Drafted tokens of row r that can be kept now: up to its limit, and to where its cache is compressed next."""
        room = self.compression.room(self.target.lengths[r], self.prompt_lengths[r])
        return min(self.limits[r] - len(self.contexts[r]) - 1, room - 1)

    def _gamma(self, r: int, depth: int) -> int:
        """Tokens to draft for row r: what its schedule asks for; of a path no more than can be kept."""
        gamma = self.schedules[r].gamma
        return gamma if depth and self.drafter.branches else min(gamma, depth)

    def _commit(self, new: list[Tensor], on_tokens: Callable[[list[Tensor]], None]) -> list[int]:
        """Append tokens, (n,) a row, up to the end of text; returns how many of each row."""
        new = [until_end(tokens, self.stop_tokens) for tokens in new]
        self.contexts = [torch.cat(parts) for parts in zip(self.contexts, new, strict=True)]
        on_tokens(new)
        return [len(tokens) for tokens in new]

    @property
    def new(self) -> int:
        """See `Decoding.new`."""
        return max(len(context) - n for context, n in zip(self.contexts, self.prompt_lengths, strict=True))

    def tokens(self) -> Tensor:
        """See `Decoding.tokens`."""
        rows = [context[length:] for context, length in zip(self.contexts, self.prompt_lengths, strict=True)]
        longest = max(len(row) for row in rows)
        return torch.stack([torch.cat([row, row[-1:].expand(longest - len(row))]) for row in rows])

    def generations(self) -> list[Generation] | None:
        """See `Decoding.generations`; the seconds of a row's rounds are those of the batch."""
        if self.compresses or self.schedules[0].timed:
            return None
        rows = zip(self.contexts, self.prompt_lengths, self.row_traces, strict=True)
        return [Generation(context[None, length:], trace) for context, length, trace in rows]


def _summed(rows: list[Iteration], slots: int) -> Iteration:
    """A round of a batch: sums over its rows, the largest gamma, and the slots of the fullest."""
    sums = {
        name: sum(getattr(row, name) for row in rows) for name in ("proposed", "accepted", "committed", "rejections")
    }
    return Iteration(
        gamma=max(row.gamma for row in rows),
        seconds=rows[0].seconds,
        draft_seconds=rows[0].draft_seconds,
        compress_seconds=rows[0].compress_seconds,
        slots=slots,
        **sums,
    )
