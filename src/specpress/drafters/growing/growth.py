"""Growing a tree of likely continuations: which tokens are worth a row of the target's forward.

Nodes enter in the order of their estimated probability of being reached, as in Sequoia (Chen et al., 2024, section
3.1), EAGLE-2 (Li et al., 2024, section 4.1) and OPT-Tree (Wang et al., 2024): if the estimates are right, that is the
tree of its size that yields most. Every choice here depends on the context alone, never on a token drawn at random, so
a child's law is all on its token, and the output's law stays the target's whatever the estimates are.
"""

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any, NamedTuple

import torch

from specpress.laws.law import point
from specpress.speculation.drafter import Proposal

Likely = Sequence[tuple[int, float]]  # tokens, the most likely first, and the estimated probability of each


class Guide:
    """What may come next. A state stands for a context, which it need not hold; None: nothing is known of it."""

    def root(self) -> Any:
        """The state of the context that was read last."""
        raise NotImplementedError

    def after(self, state: Any, token: int) -> Any:
        """The state of that context and then `token`."""
        raise NotImplementedError

    def likely(self, state: Any) -> Likely:
        """Tokens that may come next; what their probabilities leave of 1 is for other guides to share out."""
        raise NotImplementedError


class Grown(NamedTuple):
    """Nodes in the order they were added: tokens, the index of each one's parent (-1: the context), their estimates."""

    tokens: list[int]
    parents: list[int]
    reached: list[float]

    def proposal(self) -> Proposal:
        """As a proposal: the laws are all on one token each."""
        return Proposal(
            torch.tensor(self.tokens, dtype=torch.long), [point(token) for token in self.tokens], self.parents
        )


def _best(reached: float, depth: int, rank: int) -> float:
    return -reached


def _fixed(reached: float, depth: int, rank: int) -> float:
    return depth + rank


def _path(reached: float, depth: int, rank: int) -> float:
    return depth if rank == 0 else inf


SHAPES: dict[str, Callable[[float, int, int], float]] = {"best": _best, "fixed": _fixed, "path": _path}
"""What is added first, by name. best: the node most likely reached. fixed: one shape whatever the estimates, the node
whose depth and ranks among its siblings, its ancestors' included, add up to least. path: the likeliest child alone."""


class Family(NamedTuple):
    """The children that a node, or the context, may get, the most likely first.

    parent, reached, depth, ranks : of that node: its index (-1: the context), its estimate, its depth, and the sum of
        the ranks among siblings on the way to it
    states : of the guides after it
    """

    parent: int
    reached: float
    depth: int
    ranks: int
    states: Sequence[Any]
    children: Likely


def grow(guides: Sequence[Guide], nodes: int, stop: Callable[[float], bool], shape: str = "best") -> Grown:
    """The tree of up to `nodes` nodes that the guides' estimates ask for.

    Parameters
    ----------
    guides : the first shares out the probability of a node's children, the next what it left, and so on
    stop : told the estimate of every node added, whether to add no more
    shape : of `SHAPES`
    """
    key, tree, number = SHAPES[shape], Grown([], [], []), count()
    waiting: list[tuple[float, int, Family, int]] = []  # key, number, a family and which child of it

    def offer(family: Family, which: int) -> None:
        if which < len(family.children):
            place = key(family.reached * family.children[which][1], family.depth + 1, family.ranks + which)
            if place < inf:
                heappush(waiting, (place, next(number), family, which))

    states = [guide.root() for guide in guides]
    offer(Family(-1, 1.0, 0, 0, states, _children(guides, states)), 0)
    while waiting and len(tree.tokens) < nodes:
        _, _, family, which = heappop(waiting)
        token, probability = family.children[which]
        reached = family.reached * probability
        tree.tokens.append(token)
        tree.parents.append(family.parent)
        tree.reached.append(reached)
        if stop(reached) or len(tree.tokens) == nodes:
            break
        offer(family, which + 1)
        states = [_after(guide, state, token) for guide, state in zip(guides, family.states, strict=True)]
        inner = _children(guides, states)
        offer(Family(len(tree.tokens) - 1, reached, family.depth + 1, family.ranks + which, states, inner), 0)
    return tree


def _after(guide: Guide, state: Any, token: int) -> Any:
    return None if state is None else guide.after(state, token)


def _children(guides: Iterable[Guide], states: Iterable[Any]) -> Likely:
    """What the guides say together, the most likely first: what one leaves of the probability the next shares out."""
    found: dict[int, float] = {}
    left = 1.0
    for guide, state in zip(guides, states, strict=True):
        if state is None:
            continue
        shares = guide.likely(state)
        for token, probability in shares:
            found[token] = found.get(token, 0.0) + left * probability
        left *= max(0.0, 1.0 - sum(probability for _, probability in shares))
    return sorted(found.items(), key=lambda item: -item[1])
