"""A cascade: an intermediate model verifies a smaller drafter's tokens before the target sees them.

The original study's `specSampling_new_multi`, and Chen et al. (2023), "Cascade Speculative Drafting"; TriForce (Sun et
al., 2024) has the same two levels. When the intermediate model rejects, it samples the residual, so that every token of
the proposal follows the intermediate model's own law exactly: that law is what the target verifies against.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from specpress.engine.cached_model import CachedModel
from specpress.engine.compression_settings import Compression
from specpress.engine.ragged_model import RaggedModel
from specpress.laws.engines import joined
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.schedules.base import never
from specpress.speculation.drafter import Drafter, Proposal, check_same_vocabulary
from specpress.speculation.prefill import prefill, read_rows
from specpress.speculation.rounds import Round, speculate, speculate_rows


class Cascade(Drafter):
    """Draft by running the decoding loop's own rounds with `intermediate_model` as the target.

    Parameters
    ----------
    intermediate_model : causal LM with the target's vocabulary
        Its output head may cover a subset of it, as a draft model's may; tokens outside are never proposed.
    drafter : the smaller drafter, of any kind
    gamma : int, tokens `drafter` drafts in an inner round
    rounds : int, inner rounds a proposal at most

    The outer schedule's gamma caps the proposal's length, and the proposal is a path, whatever the drafter's is. Inner
    verification is recursive, by token on a path: what it accepts ends at a stopping time, so cutting the proposal
    after any round leaves the law of what was proposed as it is.

    A drafter that reads hidden states (a feature head of the intermediate model) finds those of all tokens but the last
    whenever it drafts. That takes one more forward of the intermediate model a proposal, which reads what it lacks and,
    as states can be taken but once, the last token that stood again.
    """

    def __init__(self, intermediate_model: nn.Module, drafter: Drafter, gamma: int = 4, rounds: int = 4):
        for name, value in (("gamma", gamma), ("rounds", rounds)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.model, self.drafter = intermediate_model, drafter
        self.gamma, self.rounds = gamma, rounds

    def start(self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacity: int) -> None:
        """See `Drafter.start`."""
        self._start(target, sampling, randomness, capacity)
        self.drafter.start(self.model, sampling, randomness, capacity)

    def _start(self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacity: int) -> None:
        check_same_vocabulary(target, self.model)
        self._sampling, self._randomness = sampling, randomness
        self._cached = CachedModel(self.model, capacity)

    def models(self) -> tuple[nn.Module, ...]:
        """See `Drafter.models`."""
        return (self.model, *self.drafter.models())

    def compressions(self) -> list[tuple[nn.Module, Compression]]:
        """See `Drafter.compressions`; the model that verifies the inner drafter is the intermediate one."""
        return [(model or self.model, how) for model, how in self.drafter.compressions()]

    def rows(self, batch: int) -> "CascadeRows":
        """See `Drafter.rows`: one forward of the intermediate model serves the whole batch."""
        return CascadeRows(self, batch)

    def propose(self, context: Tensor, gamma: int, stop: Callable[[float], bool]) -> Proposal:
        """Inner rounds until `gamma` tokens, `rounds` rounds or `stop`; the laws are the intermediate model's."""
        if not self._cached.length:
            prefill(self._cached, context[None, :-1], drafter=self.drafter)
        self._show_states(context)
        start, laws = len(context), []
        for _ in range(self.rounds):
            missing = start + gamma - len(context)
            inner = min(self.gamma, missing - 1)
            proposal = self.drafter.propose(context, inner, never) if inner else None
            round_ = speculate(
                self._cached, self.drafter, context, proposal, self._sampling, self._randomness, "recursive"
            )
            context = torch.cat([context, round_.tokens])
            laws.append(round_.laws)
            if len(context) == start + gamma or _stops(round_, stop):
                break
        return Proposal(context[start:], joined(laws))

    def _show_states(self, context: Tensor) -> None:
        """Have the intermediate model read what it lacks before the last token, if the drafter wants the states."""
        lacking = context[self._cached.length : -1]
        if self.drafter.reads and len(lacking):
            self._cached.feed(lacking[None])

    def rollback(self, length: int) -> None:
        """See `Drafter.rollback`; before the first proposal there is nothing to take back."""
        if self._cached.length:
            self._cached.rollback_to(length - 1 if self.drafter.reads else length)
            self.drafter.rollback(length)


class CascadeRows(Cascade):
    """A cascade for the rows of a batch: in an inner round each row accepts its own tokens (see `RowByRow`)."""

    def __init__(self, cascade: Cascade, batch: int):
        super().__init__(cascade.model, cascade.drafter.rows(batch), cascade.gamma, cascade.rounds)
        self._ragged: RaggedModel | None = None

    def start(
        self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacities: Sequence[int]
    ) -> None:
        """See `RowByRow.start`."""
        self._start(target, sampling, randomness, max(capacities))
        self.drafter.start(self.model, sampling, randomness, capacities)

    def propose(
        self, contexts: Sequence[Tensor], gammas: Sequence[int], stop: Callable[[float], bool]
    ) -> list[Proposal]:
        """`Cascade.propose` for up to gammas[r] tokens after contexts[r], LongTensor (n,), of each row r."""
        grown, laws = list(contexts), [[] for _ in contexts]
        ends = [len(context) + gamma for context, gamma in zip(contexts, gammas, strict=True)]
        rows = [r for r, gamma in enumerate(gammas) if gamma]
        if rows and self._ragged is None:
            self._ragged, _ = read_rows(self._cached, [context[:-1] for context in contexts], drafter=self.drafter)
        for _ in range(self.rounds if rows else 0):
            for r, round_ in zip(rows, self._inner_round(grown, ends, rows), strict=True):
                grown[r] = torch.cat([grown[r], round_.tokens])
                laws[r] += round_.laws
                if len(grown[r]) == ends[r] or _stops(round_, stop):
                    rows = [other for other in rows if other != r]
            if not rows:
                break
        return [Proposal(g[len(c) :], law) for g, c, law in zip(grown, contexts, laws, strict=True)]

    def _inner_round(self, contexts: list[Tensor], ends: list[int], rows: list[int]) -> list[Round]:
        """One round of the intermediate model for `rows`, whose contexts go no further than to their ends."""
        gammas = [min(self.gamma, ends[r] - len(context) - 1) if r in rows else 0 for r, context in enumerate(contexts)]
        proposals = self.drafter.propose(contexts, gammas, never)
        return speculate_rows(
            self._ragged, self.drafter, contexts, proposals, rows, self._sampling, self._randomness, "recursive"
        )

    def rollback(self, lengths: Sequence[int]) -> None:
        """Of each row r the first lengths[r] tokens stand."""
        if self._ragged is not None:
            self._ragged.rollback_to(lengths)
            self.drafter.rollback(lengths)


def _stops(round_: Round, stop: Callable[[float], bool]) -> bool:
    """Whether drafting ends after a round: at a token of such a probability under the intermediate model's law."""
    if stop is never:
        return False
    return any(stop(law.probability(token)) for law, token in zip(round_.laws, round_.tokens.tolist(), strict=True))
