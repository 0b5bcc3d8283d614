"""Greedy laws where the logits are: each is a token, and that is all that is ever read of them.

The same laws as `specpress.laws.law` makes of greedy sampling, which are their oracle. Laws over the vocabulary, as
`specpress.laws.device` has them, would be rows of zeros: a greedy verdict on the host, from the few integers that say
where the ones are, costs less than one launch there.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from specpress.hardware.recording import Recorded
from specpress.laws.law import Drawn, Head, Law, point
from specpress.laws.sampling import Randomness
from specpress.laws.there import LawsThere


class Points(LawsThere):
    """The greedy laws of rows of logits, (n, head size): `tokens`, LongTensor (n,), each has all of its law's mass.

    Drawing reads nothing on the host, and one copy brings all of them there.
    """

    def __init__(self, logits: Tensor, head: Head | None = None):
        self.tokens, self.sound = most_likely(logits, constants=(None if head is None else head.device,))

    @classmethod
    def of(cls, tokens: Tensor, sound: Tensor) -> "Points":
        """Laws that are made already."""
        laws = cls.__new__(cls)
        laws.tokens, laws.sound = tokens, sound
        return laws

    def picked(self, places: slice | Sequence[int]) -> "Points":
        """See `LawsThere.picked`."""
        return Points.of(self.tokens[places], self.sound[places])

    def on_host(self) -> list[Law | None]:
        """See `LawsThere.on_host`."""
        return [point(token) if token >= 0 else None for token in torch.where(self.sound, self.tokens, -1).tolist()]

    def draw(self, randomness: Randomness) -> Drawn:
        """A token from each, which is certain; a uniform is spent on it as on any other."""
        randomness.uniforms(len(self))
        return Drawn(self.tokens, [1.0] * len(self))

    def take(self, randomness: Randomness) -> Tensor:
        """A token from each, LongTensor (n,) on the CPU."""
        randomness.uniforms(len(self))
        return torch.tensor([int(law.tokens[0]) for law in self])


@Recorded
def most_likely(logits: Tensor, covered: Tensor | None) -> tuple[Tensor, Tensor]:
    """The first of the largest logits of each row, (n, head size), and whether it is a number; NaN is the largest.

    covered : LongTensor (head size,), the tokens of the head; None for all
    """
    best = logits.float().argmax(-1)
    sound = logits.gather(-1, best[:, None])[:, 0].isfinite()
    return best if covered is None else covered[best], sound
