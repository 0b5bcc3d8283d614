"""Tokens that follow one context in more than one way: who follows whom, and so who sees whom."""

from collections.abc import Sequence

import numpy as np

CONTEXT = -1  # the parent of a node that follows the context itself


class Tree:
    """The shape of n tokens, the nodes: node i follows node parents[i], which comes before it, or the context (-1).

    `depths` : of each node, 1 for one that follows the context
    `children` : of each node, in the order of the nodes; children[-1] are those of the context

    Raises
    ------
    ValueError
        A parent that is neither an earlier node nor -1.
    """

    def __init__(self, parents: Sequence[int]):
        self.parents = tuple(map(int, parents))
        self.depths: list[int] = []
        self.children: list[list[int]] = [[] for _ in range(len(self.parents) + 1)]
        for node, parent in enumerate(self.parents):
            if not CONTEXT <= parent < node:
                raise ValueError(
                    f"node {node} of a tree has parent {parent}; parents are nodes before it, or {CONTEXT}, the context"
                )
            self.depths.append(1 if parent == CONTEXT else self.depths[parent] + 1)
            self.children[parent].append(node)

    @classmethod
    def path(cls, nodes: int) -> "Tree":
        """Each node follows the one before it."""
        return cls(range(CONTEXT, nodes + CONTEXT))

    def __len__(self) -> int:
        return len(self.parents)

    @property
    def is_path(self) -> bool:
        """Whether each node follows the one before it."""
        return all(parent == node + CONTEXT for node, parent in enumerate(self.parents))

    def path_to(self, node: int) -> list[int]:
        """The nodes from the context to `node`, itself included; none for the context."""
        found = []
        while node != CONTEXT:
            found.append(node)
            node = self.parents[node]
        return found[::-1]

    def depth_first(self, depth: int | None = None) -> list[int]:
        """The nodes up to a depth, each followed by all that follow it, siblings in their order."""
        order, ahead = [], self.children[CONTEXT][::-1]
        while ahead:
            node = ahead.pop()
            if depth is None or self.depths[node] <= depth:
                order.append(node)
                ahead += self.children[node][::-1]
        return order

    def seen(self, before: int = 0) -> np.ndarray:
        """Which tokens (columns) each token (rows) sees: those before it on its path, and itself; bool (m, m).

        before : tokens of the context that come first, so that m is so many more than there are nodes
        """
        seen = np.tri(before + len(self), dtype=bool)
        seen[before:, before:] = np.eye(len(self), dtype=bool)
        for node, parent in enumerate(self.parents, before):
            if parent != CONTEXT:
                seen[node] |= seen[before + parent]
        return seen
