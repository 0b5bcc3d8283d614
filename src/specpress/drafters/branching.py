"""Drafting a tree with a model: at each step of its main line, other children beside the token it goes on with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specpress.drafters.autoregressive import draft
from specpress.drafters.growing.successors import most_likely
from specpress.engine.cached_model import CachedModel
from specpress.laws.law import Head, Law, law_of, point
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.speculation.drafter import Proposal


@dataclass(frozen=True)
class Branching:
    """How a model's draft branches.

    children : tokens after each one of the main line; 1 is a path
    likely : whether children are the most likely tokens under sampling too, which are not drawn then

    Raises
    ------
    ValueError
        Fewer children than one.
    """

    children: int
    likely: bool

    def __post_init__(self):
        if self.children < 1:
            raise ValueError(f"children must be at least 1, got {self.children}")

    @property
    def of_paths(self) -> bool:
        """Whether every token is drawn, and follows the one before it."""
        return self.children == 1 and not self.likely

    def draft(
        self,
        cached: CachedModel,
        context: Tensor,
        gamma: int,
        room: int,
        stop: Callable[[float], bool],
        sampling: SamplingParams,
        randomness: Randomness,
    ) -> Proposal:
        """Up to `gamma` tokens after `context`, LongTensor (n,), of which a path has at most `room`."""
        if self.of_paths:
            return draft(cached, context, gamma, stop, sampling, randomness)
        return draft_branches(cached, context, gamma, room, self.children, self.likely, stop, sampling, randomness)


def draft_branches(
    cached: CachedModel,
    context: Tensor,
    gamma: int,
    room: int,
    children: int,
    likely: bool,
    stop: Callable[[float], bool],
    sampling: SamplingParams,
    randomness: Randomness,
) -> Proposal:
    """Up to `gamma` nodes, `children` after each token of a main line, which goes on from the first of them.

    The main line has at most `room` tokens: it ends where the text does, or where `stop` says so of one of them.
    `stop` is told of every node how likely it is reached, by the draft's own probabilities.
    The shape depends on the main line alone, never on the value of a child that is tried after it: so each child
    follows the law that it comes with. A step of the model serves all children of a node, and its cache stays a path.
    """
    tokens: list[int] = []
    laws: list[Law] = []
    parents: list[int] = []
    gamma, fed, parent, reached = min(gamma, children * room), context[cached.length :], -1, 1.0
    for _ in range(room):
        logits, first = cached.feed(fed[None])[0, -1], len(tokens)
        drawn = _most_likely if likely or sampling.greedy else _without_replacement
        count = min(children, gamma - first)
        found = list(drawn(logits, count, sampling, cached.head_tokens, randomness))
        for token, law, _ in found:
            tokens.append(token)
            laws.append(law)
            parents.append(parent)
        ends = [stop(reached * probability) for *_, probability in found]
        if ends[0] or len(tokens) == gamma:
            break
        reached *= found[0][2]
        fed, parent = torch.tensor(tokens[first : first + 1]), first
    return Proposal(torch.tensor(tokens, dtype=torch.long), laws, parents)


Child = tuple[int, Law, float]  # the token, the law it was drawn from given its earlier siblings, its own probability


def _without_replacement(
    logits: Tensor, count: int, sampling: SamplingParams, head: Head | None, randomness: Randomness
) -> Iterator[Child]:
    """Children drawn one after the other; fewer than `count` where the law has no more tokens that can come.

    At a low temperature the mass of others falls under the smallest number, and is 0.
    """
    law = law_of(logits, sampling, None if head is None else head.host)
    for left in reversed(range(min(count, np.count_nonzero(law.mass)))):
        token, mass = law.draw(randomness.uniform())
        yield token, law, mass
        if left:
            law = without(law, token)


def _most_likely(
    logits: Tensor, count: int, sampling: SamplingParams, head: Head | None, randomness: Randomness
) -> Iterator[Child]:
    """The most likely children, which are not drawn; their probabilities are those at temperature 1."""
    (places,), _ = most_likely(logits[None], count)
    mass = logits.float().softmax(-1)[places].tolist()
    for token, probability in zip(places if head is None else head.host[places], mass, strict=True):
        yield int(token), point(int(token)), float(probability)


def without(law: Law, token: int) -> Law:
    """The law of a draw given that it is not `token`, which must not be all of it."""
    others = law.tokens != token
    mass = law.mass[others]
    return Law(law.tokens[others], mass / mass.sum())
