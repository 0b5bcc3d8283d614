"""A cascade: an intermediate model verifies a smaller drafter's tokens before the target sees them.

The original study's `specSampling_new_multi`, and Chen et al. (2023), "Cascade Speculative Drafting"; TriForce (Sun et
al., 2024) has the same two levels. When the intermediate model rejects, it samples the residual, so that every token of
the proposal follows the intermediate model's own law exactly: that law is what the target verifies against.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from specpress.cached_model import CachedModel
from specpress.drafters.base import Drafter, Proposal, check_same_vocabulary
from specpress.prefill import prefill
from specpress.rounds import Round, speculate
from specpress.sampling import Randomness, SamplingParams


class Cascade(Drafter):
    """Draft by running the decoding loop's own rounds with `intermediate_model` as the target.

    Parameters
    ----------
    intermediate_model : causal LM with the target's vocabulary
        Its output head may cover a subset of it, as a draft model's may; tokens outside are never proposed.
    drafter : the smaller drafter, of any kind
    gamma : int, tokens `drafter` drafts in an inner round
    rounds : int, inner rounds a proposal at most

    The outer schedule's gamma caps the proposal's length. Inner verification is by token: its accepted prefix ends at a
    stopping time, so cutting the proposal after any round leaves the law of what was proposed as it is.
    """

    def __init__(self, intermediate_model: nn.Module, drafter: Drafter, gamma: int = 4, rounds: int = 4):
        for name, value in (("gamma", gamma), ("rounds", rounds)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.model, self.drafter = intermediate_model, drafter
        self.gamma, self.rounds = gamma, rounds

    def start(self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacity: int) -> None:
        """See `Drafter.start`."""
        check_same_vocabulary(target, self.model)
        self._sampling, self._randomness = sampling, randomness
        self._cached = CachedModel(self.model, capacity)
        self.drafter.start(self.model, sampling, randomness, capacity)

    def models(self) -> tuple[nn.Module, ...]:
        """See `Drafter.models`."""
        return (self.model, *self.drafter.models())

    def rows(self, batch: int) -> Drafter:
        """Refused: the inner rounds are those of one sequence."""
        raise ValueError(f"a cascade drafts for one sequence at a time, got a batch of {batch}; take another drafter")

    def propose(self, context: Tensor, gamma: int, stop: Callable[[float], bool]) -> Proposal:
        """Inner rounds until `gamma` tokens, `rounds` rounds or `stop`; the laws are the intermediate model's."""
        if not self._cached.length:
            prefill(self._cached, context[None, :-1], drafter=self.drafter)
        start, laws = len(context), []
        for _ in range(self.rounds):
            missing = start + gamma - len(context)
            inner = min(self.gamma, missing - 1)
            proposal = self.drafter.propose(context, inner, _never) if inner else None
            round_ = speculate(
                self._cached, self.drafter, context, proposal, self._sampling, self._randomness, verification="token"
            )
            context = torch.cat([context, round_.tokens])
            laws += round_.laws
            if len(context) == start + gamma or any(map(stop, _probabilities(round_))):
                break
        return Proposal(context[start:], laws)

    def rollback(self, length: int) -> None:
        """See `Drafter.rollback`."""
        self._cached.rollback_to(length)
        self.drafter.rollback(length)


def _never(probability: float) -> bool:
    return False


def _probabilities(round_: Round) -> list[float]:
    return [law.probability(token) for law, token in zip(round_.laws, round_.tokens.tolist(), strict=True)]
