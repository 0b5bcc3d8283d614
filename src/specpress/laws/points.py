"""Greedy laws where the logits are: each is a token, and that is all that is ever read of them.

The same laws as `specpress.laws.law` makes of greedy sampling, which are their oracle. Laws over the vocabulary, as
`specpress.laws.device` has them, would be rows of zeros: a greedy verdict on the host, from the few integers that say
where the ones are, costs less than one launch there.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from specpress.hardware.recording import Recorded
from specpress.laws.law import NO_NUMBERS, Drawn, Head, Law, point
from specpress.laws.sampling import Randomness


class Points(Sequence):
    """The greedy laws of rows of logits, (n, head size): `tokens`, LongTensor (n,), each has all of its law's mass.

    Drawing reads nothing on the host; the first law that is asked for brings all of them there, in one copy.

    `sound` : BoolTensor (n,), false where the logits left no law
    """

    def __init__(self, logits: Tensor, head: Head | None = None):
        self.tokens, self.sound = most_likely(logits, constants=(None if head is None else head.device,))
        self._read: list[int] | None = None

    @classmethod
    def of(cls, tokens: Tensor, sound: Tensor) -> "Points":
        """Laws that are made already."""
        laws = cls.__new__(cls)
        laws.tokens, laws.sound, laws._read = tokens, sound, None
        return laws

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int | slice) -> "Law | Points":
        """A slice stays on the device; ValueError for a law that is none."""
        if isinstance(index, slice):
            part = Points.of(self.tokens[index], self.sound[index])
            part._read = None if self._read is None else self._read[index]
            return part
        if self._read is None:
            self._read = torch.where(self.sound, self.tokens, -1).tolist()
        token = self._read[index]
        if token < 0:
            raise ValueError(NO_NUMBERS)
        return point(token)

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
