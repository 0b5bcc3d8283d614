"""Speculative decoding of a batch: each row accepts its own tokens, one forward of the target verifies all rows.

The rounds are those of `specpress.decoding` with lists over rows. Rows are independent: their laws, drafts and uniforms
are their own, and gamma is decided before a round from past rounds alone, so each row's law is that of decoding it
alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from specpress.cached_model import CachedModel
from specpress.drafters.base import Proposal, RowByRow
from specpress.laws import Laws, draw
from specpress.ragged import read_rows
from specpress.sampling import Randomness, SamplingParams
from specpress.schedules import Schedule
from specpress.trace import Iteration, Trace, clock
from specpress.verification import verify


class BatchLoop:
    """State of one generation of several rows. `contexts` hold prompts and committed tokens, LongTensor (n,) each.

    Parameters
    ----------
    prompts : LongTensor (n,) each, of any lengths
    drafter : `Drafter.rows` of the batch
    stop_tokens : tokens that end a row
    """

    def __init__(
        self,
        model: nn.Module,
        prompts: Sequence[Tensor],
        max_new_tokens: int,
        drafter: RowByRow,
        press,
        stop_tokens: frozenset[int],
        *,
        sampling: SamplingParams,
        schedule: Schedule,
        verification: str,
    ):
        self.model, self.drafter, self.schedule = model, drafter, schedule
        self.sampling, self.verification = sampling, verification
        self.press, self.stop_tokens = press, stop_tokens
        self.contexts = list(prompts)
        self.prompt_lengths = [len(prompt) for prompt in prompts]
        self.limits = [length + max_new_tokens for length in self.prompt_lengths]
        self.device = prompts[0].device
        self.randomness = Randomness(sampling.seed)
        self.trace = Trace()

    def run(self) -> tuple[Tensor, Trace]:
        """Prefill, then iterate until every row has ended; tokens: (batch, new), rows that ended repeat their last."""
        started = clock(self.device)
        self.drafter.start(self.model, self.sampling, self.randomness, max(self.limits))
        cached = CachedModel(self.model, max(self.limits))
        self.target, logits = read_rows(cached, self.contexts, press=self.press, drafter=self.drafter)
        for r, token in enumerate(draw(Laws(logits, self.sampling), self.randomness)):
            self._commit(r, self.contexts[r].new_tensor([token]))
        self.trace.prefill_seconds = clock(self.device) - started
        while any(self._open(r) for r in range(len(self.contexts))):
            self._iterate()
        layers = len(self.target.cache.layers)
        self.trace.kv_bytes = self.target.nbytes
        self.trace.layer_slots = [max(self.target.slots)] * layers
        self.trace.layer_kv_bytes = [self.target.nbytes // layers] * layers
        return self._output(), self.trace

    def _open(self, r: int) -> bool:
        context = self.contexts[r]
        return len(context) < self.limits[r] and int(context[-1]) not in self._ends(r)

    def _ends(self, r: int) -> frozenset[int]:
        """The tokens that end row r, once it has a token of its own."""
        return self.stop_tokens if len(self.contexts[r]) > self.prompt_lengths[r] else frozenset()

    def _iterate(self) -> None:
        """One round: every open row drafts, the target verifies all rows in one forward, each commits what stands."""
        started = clock(self.device)
        open_rows = [self._open(r) for r in range(len(self.contexts))]
        room = [limit - len(context) - 1 for limit, context in zip(self.limits, self.contexts, strict=True)]
        gammas = [
            min(self.schedule.gamma, left) if is_open else 0 for left, is_open in zip(room, open_rows, strict=True)
        ]
        proposals = self._propose(gammas)
        drafted = clock(self.device)
        results = self._verify(proposals, open_rows)
        committed = [self._commit(r, tokens) for r, (_, tokens) in enumerate(results)]
        finished = clock(self.device)
        rows = [
            Iteration(
                gamma=gamma,
                proposed=len(proposal.tokens),
                accepted=accepted,
                committed=new,
                seconds=finished - started,
                draft_seconds=drafted - started,
                slots=slots,
            )
            for gamma, proposal, (accepted, _), new, slots in zip(
                gammas, proposals, results, committed, self.target.slots, strict=True
            )
        ]
        self._note(rows, open_rows)

    def _propose(self, gammas: list[int]) -> list[Proposal | None]:
        if any(gammas):
            return self.drafter.propose(self.contexts, gammas, self.schedule.stop)
        nothing = self.contexts[0][:0]
        return [Proposal(nothing, [])] * len(gammas)

    def _verify(self, proposals: list[Proposal], open_rows: list[bool]) -> list[tuple[int, Tensor]]:
        """(tokens accepted, tokens to commit) of each row; rows that have ended commit nothing."""
        fed = [torch.cat([c[-1:], p.tokens]) for c, p in zip(self.contexts, proposals, strict=True)]
        counts = [len(f) if is_open else 0 for f, is_open in zip(fed, open_rows, strict=True)]
        logits = self.target.feed(torch.nn.utils.rnn.pad_sequence(fed, batch_first=True), counts)
        results = []
        for row, count, proposal in zip(logits, counts, proposals, strict=True):
            if not count:
                results.append((0, proposal.tokens[:0]))
                continue
            laws, drafted = Laws(row[:count], self.sampling), proposal.tokens.tolist()
            accepted, token = verify(self.verification, laws, proposal.laws, drafted, self.randomness)
            results.append((accepted, proposal.tokens.new_tensor([*drafted[:accepted], token])))
        accepted = [a for a, _ in results]
        self.target.rollback([max(0, n - 1 - a) for n, a in zip(counts, accepted, strict=True)])
        self.drafter.rollback([len(c) + a for c, a in zip(self.contexts, accepted, strict=True)])
        return results

    def _commit(self, r: int, tokens: Tensor) -> int:
        """Append tokens, (n,), to row r up to its end of text; returns how many."""
        if self.stop_tokens:
            ends = [i for i, token in enumerate(tokens.tolist()) if token in self.stop_tokens]
            tokens = tokens[: ends[0] + 1] if ends else tokens
        self.contexts[r] = torch.cat([self.contexts[r], tokens])
        return len(tokens)

    def _note(self, rows: list[Iteration], open_rows: list[bool]) -> None:
        """Trace the round as sums over rows; the schedule learns from one open row, each in its turn."""
        sums = {name: sum(getattr(row, name) for row in rows) for name in ("proposed", "accepted", "committed")}
        seen = [row for row, is_open in zip(rows, open_rows, strict=True) if is_open]
        turn = len(self.trace.iterations)
        self.trace.iterations.append(
            Iteration(
                gamma=max(row.gamma for row in seen),
                seconds=rows[0].seconds,
                draft_seconds=rows[0].draft_seconds,
                slots=max(self.target.slots),
                rejections=sum(row.rejections for row in rows),
                **sums,
            )
        )
        self.schedule.update(seen[turn % len(seen)])

    def _output(self) -> Tensor:
        rows = [context[length:] for context, length in zip(self.contexts, self.prompt_lengths, strict=True)]
        longest = max(len(row) for row in rows)
        return torch.stack([torch.cat([row, row[-1:].expand(longest - len(row))]) for row in rows])
