"""Buffers of keys and values that outlive the caches they are lent to, so that what was captured on them does too."""

import weakref

import torch

from specpress.engine.cache import PreallocatedCache


class _Lent(list):
    """A layer's buffers while they are an arena's: a list that can be referred to weakly."""


class Arena:
    """Keys and values of all layers in buffers that stay, and the steps captured on them; lent to one cache at a time.

    It takes over the buffers of the cache it is made from, which goes on using them.
    """

    def __init__(self, cache: PreallocatedCache):
        self.buffers = [list(layer._buffers) for layer in cache.layers]
        self.batch, _, self.capacity, _ = self.buffers[0][0].shape
        self.steps: dict = {}  # by their keys; see `specpress.engine.graphs`
        self._lent = []
        for layer in cache.layers:
            for buffer in layer._buffers:
                buffer[:, :, layer.slots :] = 0  # hidden by the mask, but must be finite
        self.lend(cache)

    @property
    def free(self) -> bool:
        """No cache uses these buffers any more: it is gone, or has grown or been compressed into others."""
        return all(lent() is None for lent in self._lent)

    def holds(self, cache: PreallocatedCache) -> bool:
        """The cache's keys and values are in these buffers."""
        return all(lent() is layer._buffers for lent, layer in zip(self._lent, cache.layers, strict=True))

    def room_for(self, cache: PreallocatedCache) -> bool:
        """Whether the cache could move here."""
        first = cache.layers[0]
        return self.free and self.batch == first._buffers[0].shape[0] and self.capacity >= first.capacity

    def take_in(self, cache: PreallocatedCache) -> None:
        """Copy the cache's keys and values here; from now on it uses these buffers.

        What the cache before it left is cleared: a mask does not hide what is no number, as 0 x NaN is NaN. All of it,
        in one call, which is fewer kernels than clearing what lies behind the slots of each layer.
        """
        torch._foreach_zero_([buffer for layer in self.buffers for buffer in layer])
        for buffers, layer in zip(self.buffers, cache.layers, strict=True):
            for mine, theirs in zip(buffers, layer._buffers, strict=True):
                mine[:, :, : layer.slots] = theirs[:, :, : layer.slots]
        self.lend(cache)

    def lend(self, cache: PreallocatedCache) -> None:
        """The cache uses these buffers from now on, its slots in them."""
        for buffers, layer in zip(self.buffers, cache.layers, strict=True):
            layer._buffers, layer.capacity = _Lent(buffers), self.capacity
        self._lent = [weakref.ref(layer._buffers) for layer in cache.layers]
