"""One cache for rows of different lengths: every row has its own slots and positions, and rolls back on its own.

A row's new keys and values go to the slots after its own; a mask has to hide from each query what lies past it.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from specpress.engine.cache import PreallocatedCache, PreallocatedLayer, bring_forward, grown, in_place, whole_blocks


class RaggedLayer(DynamicLayer):
    """Takes over the buffers of a layer, (batch, KV heads, capacity, head size); `places` says where the next go."""

    @torch.inference_mode()
    def __init__(self, layer: PreallocatedLayer):
        super().__init__()
        self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, True
        self.buffers = layer._buffers
        self.places: Tensor | None = None  # LongTensor (batch, n), the slots of the next n tokens of each row
        self.width = layer.slots
        self.seen = 0  # tokens that the row with most has seen
        for buffer in self.buffers:
            buffer[:, :, layer.slots :] = 0  # hidden by the mask, but must be finite

    def reserve(self, width: int) -> None:
        """Make room for `width` slots, all of which the next forward returns."""
        capacity = self.buffers[0].shape[2]
        if width > capacity:
            pad = (0, 0, 0, grown(capacity, width) - capacity)
            self.buffers = [torch.nn.functional.pad(buffer, pad) for buffer in self.buffers]
        self.width = width

    @torch.inference_mode()
    def put(self, r: int, layer: PreallocatedLayer) -> None:
        """Hold the slots in use of a layer of one row in place of row r's."""
        self.reserve(layer.slots)
        for buffer, kept in zip(self.buffers, (layer.keys, layer.values), strict=True):
            buffer[r, :, : layer.slots] = kept[0]

    def shrink(self, slots: int) -> None:
        """Give back, by whole blocks, the memory of `slots` slots that no row uses any more."""
        capacity = self.buffers[0].shape[2]
        if whole_blocks(capacity - slots) < capacity:
            self.buffers = [buffer[:, :, : whole_blocks(capacity - slots)].clone() for buffer in self.buffers]

    def update(self, key_states: Tensor, value_states: Tensor, cache_kwargs=None) -> tuple[Tensor, Tensor]:
        """Put (batch, KV heads, n, head size) into their places; returns all keys and values, as views."""
        rows = torch.arange(len(self.places), device=self.places.device)[:, None]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[rows, :, self.places] = states.transpose(1, 2)
        keys, values = (buffer[:, :, : self.width] for buffer in self.buffers)
        return keys, values

    def get_seq_length(self) -> int:
        """Slots before the next tokens, in the fullest row."""
        return self.width


class RaggedCache(Cache):
    """A transformers cache of `RaggedLayer`s.

    Parameters
    ----------
    cache : PreallocatedCache, not compressed yet, whose buffers this one takes over
    padded : for each row, how many of its last tokens are padding and do not count

    `slots`, `lengths` : of each row, the slots in use, and the tokens fed and not taken back
    """

    def __init__(self, cache: PreallocatedCache, padded: Sequence[int]):
        super().__init__(layers=[RaggedLayer(layer) for layer in cache.layers])
        self.slots = [cache.slots - p for p in padded]
        self.lengths = [cache.seen - p for p in padded]
        self._moved_back = [0] * len(padded)  # positions that rotating kept keys to the front has freed

    @property
    def positions(self) -> list[int]:
        """Of the next token of each row; see `PreallocatedCache.position`."""
        return [length - moved for length, moved in zip(self.lengths, self._moved_back, strict=True)]

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values in use."""
        a_slot = sum(b.shape[1] * b.shape[3] * b.element_size() for layer in self.layers for b in layer.buffers)
        return sum(self.slots) * a_slot

    def make_room(self, new: int, device: torch.device) -> tuple[Tensor, int]:
        """For `new` more tokens of each row: their slots, LongTensor (batch, new), and how many slots are attended to.

        They are not counted yet; see `count`.
        """
        places = torch.tensor(self.slots, device=device)[:, None] + torch.arange(new, device=device)
        width = max(self.slots) + new
        for layer in self.layers:
            layer.places, layer.seen = places, max(self.lengths)
            layer.reserve(width)
        return places, width

    def count(self, tokens: Iterable[int]) -> None:
        """Of each row count so many tokens more, or fewer, as fed."""
        tokens = list(tokens)
        self.slots = [a + n for a, n in zip(self.slots, tokens, strict=True)]
        self.lengths = [a + n for a, n in zip(self.lengths, tokens, strict=True)]

    def keep(self, r: int, new: int, kept: Sequence[int]) -> None:
        """Of row r's last `new` tokens forget all but those at `kept`, ascending; see `PreallocatedCache.keep`."""
        if not in_place(kept):
            first = self.slots[r] - new
            bring_forward([(buffer[r], first) for layer in self.layers for buffer in layer.buffers], kept)
        self.slots[r] -= new - len(kept)
        self.lengths[r] -= new - len(kept)

    def row(self, r: int) -> PreallocatedCache:
        """A copy of row r."""
        cache = PreallocatedCache(len(self.layers), self.slots[r])
        for layer, ragged in zip(cache.layers, self.layers, strict=True):
            layer.update(*(buffer[r : r + 1, :, : self.slots[r]] for buffer in ragged.buffers))
            layer.seen = self.lengths[r]
        cache.moved_back = self._moved_back[r]
        return cache

    def put(self, r: int, cache: PreallocatedCache) -> None:
        """Hold a cache of one row in place of row r's.

        Raises
        ------
        ValueError
            If it was compressed to a different number of slots in each layer, or to slots that are there but hidden.
        """
        if len({layer.slots for layer in cache.layers}) > 1 or any(layer.hidden is not None for layer in cache.layers):
            raise ValueError(
                "drafting for a batch needs a press that keeps the same number of slots in every layer; "
                "take another press, or decode one sequence at a time"
            )
        before = max(self.slots)
        self.slots[r], self.lengths[r], self._moved_back[r] = cache.slots, cache.seen, cache.moved_back
        for mine, layer in zip(self.layers, cache.layers, strict=True):
            mine.put(r, layer)
            mine.shrink(max(0, before - max(self.slots)))
