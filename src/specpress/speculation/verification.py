"""Which drafted tokens the target keeps, so that the output law is the target's own.

The drafted tokens are the nodes of a tree; a path is a tree with one child a node. Both rules see the target's law P at
the context and at each node, and of each node the law Q that its token was drawn from, given its ancestors and its
earlier siblings: for children drawn without replacement renormalised without those, for a child that was not drawn at
all (a looked up or most likely token) a point. They return a node, which is kept with all its ancestors, and one more
token drawn from what is left of the target's law there. Greedy decoding is the case of one-hot laws: nothing here
treats it apart.

- `recursive`: Miao et al. (2024), "SpecInfer", algorithm 2 (multi-step speculative sampling), and Chen et al. (2024),
  "Sequoia", algorithm 2 (without replacement). On a path it is `token`: Leviathan et al. (2023), algorithm 1; Chen et
  al. (2023), algorithm 2.
- `traversal`: Weng et al. (2025), "Traversal Verification for Speculative Tree Decoding" (arXiv 2505.12398). On a path
  it is `block`: Sun et al. (2024), "Block Verification Accelerates Speculative Decoding", algorithm 2.

The arithmetic is that of the laws' numbers: in fractions it is exact (the tests enumerate it so).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from specpress.engine.tree import CONTEXT, Tree
from specpress.laws.law import Law
from specpress.laws.sampling import Randomness

# Whether a node that is kept with a probability is kept: (node, probability) -> bool; asked once a node at most.
Coin = Callable[[int, float], bool]
# A rule: the laws of target (n + 1) and draft (n), the drafted tokens (n), their tree, a coin -> the last node kept,
# -1 if none is, and what is left of the target's law there, unnormalised.
Rule = Callable[[Sequence[Law], Sequence[Law], Sequence[int], Tree, Coin], tuple[int, Law]]


class ImpossibleDraftError(ValueError):
    """A drafted token has no mass under the law that the drafter gave for it."""


class Verdict(NamedTuple):
    """The outcome of one verification: the nodes kept, each the parent of the next, and the token that follows them."""

    kept: list[int]
    token: int


def verify(
    method: str,
    target: Sequence[Law],
    draft: Sequence[Law],
    drafted: Sequence[int],
    randomness: Randomness,
    tree: Tree | None = None,
) -> Verdict:
    """Keep a path of the drafted tokens from the context on, and draw the token after it.

    Parameters
    ----------
    method : a name of `METHODS`
    target : n + 1 laws, the target's after the context and after each drafted token
    draft : n laws, those the drafted tokens were drawn from
    drafted : n tokens
    randomness : Randomness; n + 1 uniforms are used, one a node and one for the token
    tree : of the drafted tokens; None is a path

    Returns
    -------
    Verdict: the tokens kept and the one after them follow the target's law.

    Raises
    ------
    ValueError
        A tree for a rule of paths.
    ImpossibleDraftError
        A drafted token that its law cannot have drawn.
    """
    check_shape(method, tree)
    tree = Tree.path(len(drafted)) if tree is None else tree
    uniforms = randomness.uniforms(len(drafted))
    node, law = RULES[method](target, draft, drafted, tree, lambda node, kept: uniforms[node] < kept)
    return Verdict(tree.path_to(node), law.draw(randomness.uniform())[0])


def recursive(
    target: Sequence[Law], draft: Sequence[Law], drafted: Sequence[int], tree: Tree, coin: Coin
) -> tuple[int, Law]:
    """From the context on, keep the first child that is accepted, with probability min(1, R(x) / Q(x)).

    R is P at first, and norm(max(R - Q, 0)) after a child was refused. The target's laws behind refused children are
    not looked at.
    """
    node = CONTEXT
    while True:
        rest = Rest(target, node)
        for child in tree.children[node]:
            if coin(child, rest.ratio(draft[child], drafted[child])):
                node = child
                break
            rest.refuse(draft[child])
        else:
            return node, rest.law


def traversal(
    target: Sequence[Law], draft: Sequence[Law], drafted: Sequence[int], tree: Tree, coin: Coin
) -> tuple[int, Law]:
    """The leaves first: a node is asked for once all that follows it was refused, and is kept with probability a.

    a is 1 at the context, and min(1, a R(x) / Q(x)) at a child, with R what is left of P and a what is left of its
    parent's. After a child and all that follows it was refused, with S = sum max(a R - Q, 0): R = max(a R - Q, 0) / S
    and a = S / (S + 1 - a). Nodes that cannot be kept are not looked at.
    """
    rests, ahead = [Rest(target, CONTEXT)], [iter(tree.children[CONTEXT])]
    while True:
        rest, child = rests[-1], next(ahead[-1], None)
        if child is not None:
            reached = rest.ratio(draft[child], drafted[child])
            if reached > 0:
                rests.append(Rest(target, child, reached))
                ahead.append(iter(tree.children[child]))
            else:
                rest.refuse(draft[child])
        elif rest.node == CONTEXT or coin(rest.node, rest.weight):
            return rest.node, rest.law
        else:
            rests.pop()
            ahead.pop()
            rests[-1].refuse(draft[rest.node])


class Rest:
    """What is left of the target's law P at a node after some of its children were refused: `weight` times R.

    Parameters
    ----------
    target : n + 1 laws, P at the context and at each node; that of this node is not made before it is needed
    node : -1 for the context
    weight : a in (0, 1], the probability that the node is kept if none of its children is
    """

    def __init__(self, target: Sequence[Law], node: int, weight: float = 1):
        self._target, self._scale, self._law = target, weight, None  # weight times R is scale times law
        self.node, self.weight = node, weight

    @property
    def law(self) -> Law:
        """R, unnormalised."""
        if self._law is None:
            self._law = self._target[self.node + 1]
        return self._law

    def ratio(self, draft: Law, token: int) -> float:
        """min(1, a R(x) / Q(x)) of a drafted token x."""
        drawn = draft.probability(token)
        if not drawn > 0:
            raise ImpossibleDraftError(
                f"the drafter proposed token {token}, which the law it gave for it cannot have drawn: laws[i] is that "
                "of tokens[i] given its ancestors and its earlier siblings"
            )
        return min(1, self._scale * self.law.probability(token) / drawn)

    def refuse(self, draft: Law) -> None:
        """A child drawn from `draft` was refused, with all that follows it.

        When nothing is left of a law of weight 1, P and Q agree to rounding: a refusal there has probability zero in
        exact arithmetic, and R itself is the limit.
        """
        excess = self._scale * self.law.mass
        excess -= draft.at(self.law.tokens)
        np.maximum(excess, 0, out=excess)
        left = np.add.reduce(excess)
        rest = left + (1 - self.weight)
        if rest > 0:
            self._law, self._scale, self.weight = Law(self.law.tokens, excess), 1 / rest, left / rest


# By the name that `generate` is given. A rule of one's own, for trees, is one more entry.
RULES: dict[str, Rule] = {"token": recursive, "block": traversal, "traversal": traversal, "recursive": recursive}
OF_PATHS = ("token", "block")
OF_TREES = ("traversal", "recursive")
METHODS = (*OF_PATHS, *OF_TREES)


def check_shape(method: str, tree: Tree | None) -> None:
    """Raise ValueError for a tree (None is a path) that the rule is not named for."""
    if method in OF_PATHS and tree is not None and not tree.is_path:
        raise ValueError(refusal(method))


def refusal(method: str) -> str:
    """Why drafted trees cannot be verified by a rule of paths."""
    return f"verification {method!r} is for a path, and this drafter proposes trees; use " + " or ".join(
        map(repr, OF_TREES)
    )
