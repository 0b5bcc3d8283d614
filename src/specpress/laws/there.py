"""What laws on a device have in common: they are made and picked there, and read on the host once, all together."""

from collections.abc import Sequence
from typing import Self

from torch import Tensor

from specpress.laws.law import NO_NUMBERS, Law


class LawsThere(Sequence):
    """Laws of rows of logits, on the device of these. The first that is asked for brings all of them to the host.

    `sound` : BoolTensor (n,), false where the logits left no law
    """

    sound: Tensor
    _read: list[Law | None] | None = None

    def picked(self, places: slice | Sequence[int]) -> Self:
        """Those at these places, on the device."""
        raise NotImplementedError

    def on_host(self) -> list[Law | None]:
        """All of them, read back; None for one that is none."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.sound)

    def __getitem__(self, index: int | slice) -> Law | Self:
        """A slice stays on the device; ValueError for a law that is none."""
        if isinstance(index, slice):
            part = self.picked(index)
            part._read = self._read and self._read[index]
            return part
        if self._read is None:
            self._read = self.on_host()
        law = self._read[index]
        if law is None:
            raise ValueError(NO_NUMBERS)
        return law
