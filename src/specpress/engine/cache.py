"""A preallocated KV cache whose rollback moves a counter, and which tells slots from positions.

A slot is a place in the buffers; a position is a token's true index in the text. They agree until something is evicted;
from then on `seen` goes on counting tokens while `slots` counts what is left.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

_BLOCK = 256  # buffers grow by whole blocks of slots


class PreallocatedLayer(DynamicLayer):
    """Keys and values of one layer in buffers (batch, KV heads, capacity, head size), of which `slots` are in use.

    A transformers cache layer: `keys` and `values` are views of the slots in use; assigning to them (as kvpress does)
    evicts.
    """

    def __init__(self, capacity: int = 0):
        self.capacity = capacity
        self.slots = 0
        self.seen = 0
        self.hidden: Tensor | None = None
        self._buffers: list[Tensor] = []
        super().__init__()

    @property
    def keys(self) -> Tensor | None:
        """Keys in use: (batch, KV heads, slots, head size), or None before the first token."""
        return self._buffers[0][:, :, : self.slots] if self._buffers else None

    @keys.setter
    def keys(self, kept: Tensor | None):
        self._replace(0, kept)

    @property
    def values(self) -> Tensor | None:
        """Values in use: (batch, KV heads, slots, head size), or None before the first token."""
        return self._buffers[1][:, :, : self.slots] if self._buffers else None

    @values.setter
    def values(self, kept: Tensor | None):
        self._replace(1, kept)

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values in use."""
        return sum(x.numel() * x.element_size() for x in (self.keys, self.values)) if self.is_initialized else 0

    @torch.inference_mode()
    def _replace(self, which: int, kept: Tensor | None) -> None:
        if kept is None:  # transformers' constructor
            return
        buffer = self._buffers[which]
        if kept.untyped_storage().data_ptr() == buffer.untyped_storage().data_ptr():
            kept = kept.clone()  # a view of the buffer must not be overwritten while it is read
        self.slots = kept.shape[2]
        buffer[:, :, : self.slots] = kept

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate the buffers on the first update."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.capacity = whole_blocks(max(self.capacity, key_states.shape[2]))
        self._buffers = [_buffer(states, self.capacity) for states in (key_states, value_states)]
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, cache_kwargs=None) -> tuple[Tensor, Tensor]:
        """Append (batch, KV heads, new, head size); returns all keys and values in use, as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.slots = self.slots, self.slots + key_states.shape[2]
        self.seen += key_states.shape[2]
        if self.slots > self.capacity:
            self._grow(start)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer.narrow(2, start, self.slots - start).copy_(states)
        keys = self.keys
        if self.hidden is not None:
            keys.hidden = self.hidden  # tells `specpress.engine.attention`
        return keys, self.values

    def _grow(self, used: int) -> None:
        self.capacity = grown(self.capacity, self.slots)
        larger = [_buffer(buffer, self.capacity) for buffer in self._buffers]
        for new, old in zip(larger, self._buffers, strict=True):
            new[:, :, :used] = old[:, :, :used]
        self._buffers = larger

    def count(self, tokens: int) -> None:
        """Count the next `tokens` tokens as fed: their keys and values are in the buffers already."""
        self.slots += tokens
        self.seen += tokens

    def rollback(self, tokens: int) -> None:
        """Forget the last `tokens` tokens. They must have come after the last eviction."""
        self.slots -= tokens
        self.seen -= tokens

    def evict(self, kept: Tensor) -> None:
        """Keep the slots `kept`: LongTensor (batch, KV heads, kept), ascending, so that they stay in position order.

        The buffers shrink with them: the memory is given back, and attention finds little that is unused.
        """
        index = kept.unsqueeze(-1)
        self.replace(*(x.gather(2, index.expand(-1, -1, -1, x.shape[-1])) for x in (self.keys, self.values)))

    def replace(self, keys: Tensor, values: Tensor) -> None:
        """Hold these keys and values, (batch, KV heads, slots, head size), in place of those in use."""
        room = self.capacity - self.slots
        self.slots = keys.shape[2]
        self.capacity = whole_blocks(self.slots + room)
        buffers = [_buffer(x, self.capacity) for x in (keys, values)]
        for buffer, x in zip(buffers, (keys, values), strict=True):
            buffer[:, :, : self.slots] = x
        self._buffers = buffers

    def expanded(self, rows: int) -> "PreallocatedLayer":
        """An independent copy of a layer of one row, with the row repeated `rows` times."""
        expanded = copy.copy(self)
        expanded._buffers = [buffer.repeat(rows, 1, 1, 1) for buffer in self._buffers]
        return expanded

    def hide(self, batch: Tensor, heads: Tensor, slots: Tensor) -> None:
        """Keep the slots at these indices from being attended to, though they stay: memory and time are not saved.

        Sets `hidden`: BoolTensor (batch, KV heads, slots in use now), or None when no slot ever was hidden.
        """
        self.hidden = torch.zeros(self.keys.shape[:3], dtype=torch.bool, device=self.keys.device)
        self.hidden[batch, heads, slots] = True

    def crop(self, max_length: int) -> None:
        """transformers' crop, in slots: down to `max_length`, or by -max_length when negative."""
        tokens = -max_length if max_length < 0 else self.slots - max_length
        if tokens > 0:
            self.rollback(tokens)

    def get_seq_length(self) -> int:
        """Slots in use (what transformers sizes its masks by), not tokens seen."""
        return self.slots


class PreallocatedCache(Cache):
    """A transformers cache of `PreallocatedLayer`s.

    Parameters
    ----------
    layers : int
        Number of layers of the model.
    capacity : int
        Slots to allocate at once; more are allocated when needed.
    """

    def __init__(self, layers: int, capacity: int = 0):
        super().__init__(layers=[PreallocatedLayer(capacity) for _ in range(layers)])
        self.moved_back = 0  # positions that rotating kept keys to the front has freed

    @property
    def seen(self) -> int:
        """Tokens fed and not rolled back."""
        return self.layers[0].seen

    @property
    def position(self) -> int:
        """Position of the next token: the true one, unless keys were rotated back (see `specpress.presses`)."""
        return self.seen - self.moved_back

    @property
    def slots(self) -> int:
        """Slots in use in the fullest layer."""
        return max(layer.slots for layer in self.layers)

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values in use, over all layers."""
        return sum(layer.nbytes for layer in self.layers)

    def clone(self) -> "PreallocatedCache":
        """An independent copy."""
        return copy.deepcopy(self)

    def expanded(self, rows: int) -> "PreallocatedCache":
        """An independent copy of a cache of one row, with the row repeated `rows` times."""
        expanded = copy.copy(self)
        expanded.layers = [layer.expanded(rows) for layer in self.layers]
        return expanded

    def rollback(self, tokens: int) -> None:
        """Forget the last `tokens` tokens in every layer: O(1), nothing is copied.

        Raises
        ------
        ValueError
            If fewer tokens have been seen, or fewer slots are left, than are to be forgotten.
        """
        if not 0 <= tokens <= min(self.seen, *(layer.slots for layer in self.layers)):
            raise ValueError(
                f"cannot roll back {tokens} tokens of a cache with {self.seen} tokens in {self.slots} slots"
            )
        for layer in self.layers:
            layer.rollback(tokens)

    def keep(self, new: int, kept: Sequence[int]) -> None:
        """Forget the last `new` tokens but those at `kept`, ascending; only what is not in its place yet is copied."""
        if not in_place(kept):
            bring_forward([(buffer, layer.slots - new) for layer in self.layers for buffer in layer._buffers], kept)
        self.rollback(new - len(kept))


@torch.inference_mode()
def bring_forward(buffers: Sequence[tuple[Tensor, int]], kept: Sequence[int]) -> None:
    """Bring slots at `kept`, ascending, to the front of all that come from a first slot on; others are written over.

    buffers : of all layers, (..., slots, head size), each with its first slot; one call copies a slot of all of them
    """
    for place, slot in enumerate(kept):
        if place != slot:
            here, there = ([buffer.select(-2, first + at) for buffer, first in buffers] for at in (place, slot))
            torch._foreach_copy_(here, there)


def in_place(kept: Sequence[int]) -> bool:
    """Whether these are the first of their places, so that nothing has to be moved."""
    return all(place == slot for place, slot in enumerate(kept))


def whole_blocks(slots: int) -> int:
    """Slots in the fewest blocks that hold `slots`."""
    return -(-slots // _BLOCK) * _BLOCK


def grown(capacity: int, slots: int) -> int:
    """The capacity after `capacity` for `slots`: half as much again at least, in whole blocks.

    So the copies of a long generation add up to a few times its length.
    """
    return whole_blocks(max(slots, capacity * 3 // 2))


def _buffer(like: Tensor, capacity: int) -> Tensor:
    batch, heads, _, size = like.shape
    return like.new_empty(batch, heads, capacity, size)
