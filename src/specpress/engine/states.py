"""Hidden states of chosen layers, kept as the forwards on a cache pass them, for a drafter that reads them.

Nothing is kept unless asked for. The tensors are those of the forward itself: keeping them copies nothing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class HiddenStates:
    """What chosen layers of a model put out for the tokens of one cache.

    Parameters
    ----------
    layers : numbers of the layers whose output is kept, ascending: 1 is the first, `num_hidden_layers` the last, whose
        output has not been through the final norm
    """

    def __init__(self, layers: Sequence[int]):
        self.layers = tuple(layers)
        self.end = 0  # tokens of the cache when states were last kept
        self._pieces: list[list[Tensor]] = []  # of each forward: (batch, n, hidden size) a layer
        self._open: list[Tensor] = []

    def begin(self, start: int, tokens: int) -> None:
        """A forward of `tokens` tokens after `start` others begins; what was kept of tokens from `start` on goes."""
        self.cut(start)
        self._open = []
        self._pieces.append(self._open)
        self.end = start + tokens

    def keep(self, layer: int, states: Tensor) -> None:
        """Layer number `layer` put out `states`, (batch, n, hidden size)."""
        if layer in self.layers:
            self._open.append(states)

    def cut(self, length: int) -> None:
        """Drop the states of tokens from `length` on: they were rejected."""
        while self.end > length and self._pieces:
            last = self._pieces.pop()
            start = self.end - last[0].shape[1]
            if start < length:
                self._pieces.append([states[:, : length - start] for states in last])
            self.end = max(start, length)

    def keep_path(self, new: int, kept: Sequence[int]) -> None:
        """Of the states of the last `new` tokens, a tree, only those at `kept`, ascending, stand."""
        last, before = self._pieces[-1], self._pieces[-1][0].shape[1] - new
        places = [*range(before), *(before + place for place in kept)]
        self._pieces[-1] = [states[:, places] for states in last]
        self.end += len(places) - before - new

    def take(self) -> Tensor:
        """The states of the last tokens before `end` that have not been taken yet, and forget them.

        Returns
        -------
        Tensor (batch, n, layers x hidden size), the layers of a token end to end in their order.
        """
        if not self._pieces:
            raise ValueError("no forward of the model has been kept since its states were last taken")
        joined = torch.cat([torch.cat(piece, -1) for piece in self._pieces], 1)
        self._pieces = []
        return joined
