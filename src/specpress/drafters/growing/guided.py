"""Drafters that run no model: they estimate what may come next, and grow a tree from it."""

from collections.abc import Callable, Sequence

from torch import Tensor

from specpress.drafters.growing.growth import SHAPES, Guide, grow
from specpress.speculation.drafter import Drafter, Proposal


class Guided(Drafter):
    """Base: propose the tree that `guides` ask for.

    Parameters
    ----------
    nodes : int, of a tree at most; a schedule may ask for fewer
    shape : of `specpress.drafters.growing.growth.SHAPES`

    Raises
    ------
    ValueError
        nodes under 1; an unknown shape.
    """

    branches = True

    def __init__(self, nodes: int, shape: str):
        if nodes < 1:
            raise ValueError(f"nodes must be at least 1, got {nodes}")
        if shape not in SHAPES:
            raise ValueError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")
        self.nodes, self.shape = nodes, shape

    def guides(self, context: Tensor) -> Sequence[Guide]:
        """What estimates the tokens after `context`, LongTensor (n,): those asked first come first."""
        raise NotImplementedError

    def propose(self, context: Tensor, gamma: int, stop: Callable[[float], bool]) -> Proposal:
        """A tree of up to `gamma` nodes; `stop` is told the estimated probability that each is reached."""
        return grow(self.guides(context), min(gamma, self.nodes), stop, self.shape).proposal()
