"""Decoding steps at fixed shapes, so that CUDA can record one as a graph and replay it without launching its kernels.

A graph reads and writes fixed addresses. What changes from step to step therefore comes from inputs that stay in place:
the tokens, their positions, and the slots that their keys and values go to. A step attends to a bucket of slots, a
multiple of 256, of buffers that stay in place too; a mask made from the slots hides those not in use.

Prefills, left padding, observed forwards, layers whose slots are hidden or differ in number, and full buffers take the
ordinary, eager way. None of this has run on a GPU; the tests put other recordings in the place of a CUDA graph.
"""

import warnings
import weakref
from collections.abc import Callable
from functools import cache as once
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

from specpress.engine.attention import ATTENTION, slot_mask
from specpress.engine.cache import PreallocatedCache, whole_blocks
from specpress.engine.forward import follows_length

MAX_QUERIES = 17  # tokens of a step: a verification of 16 drafted ones
_WARM_UP = 3  # steps before a capture, in which libraries choose kernels and allocate

# Turns a step into its replay. Both compute the logits from inputs that stay where they are; the logits of a replay are
# overwritten by the next.
Capture = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]


def use_graphs(model: nn.Module) -> bool:
    """Run the decoding steps of `model` as CUDA graphs from now on; returns whether they do.

    Where they cannot, decoding stays eager; a warning says so, once a process.
    """
    why = _why_eager(model)
    if why is None:
        model.static_steps = StaticSteps(CudaGraphs(model.device))
    else:
        _say(why)
    return why is None


def has_graphs(model: nn.Module) -> bool:
    """Whether `use_graphs` has switched the decoding steps of `model` over."""
    return getattr(model, "static_steps", None) is not None


def _why_eager(model: nn.Module) -> str | None:
    if model.device.type != "cuda":
        return f"there are no CUDA graphs on {model.device.type}: decoding stays eager"
    rotary = (getattr(model.config, "rope_parameters", None) or {}).get("rope_type", "default")
    if follows_length(rotary):
        return f"rotary embeddings of type {rotary} read positions on the host: decoding stays eager, without graphs"
    return None


@once
def _say(why: str) -> None:
    warnings.warn(why, stacklevel=3)


class CudaGraphs:
    """Captures steps on a CUDA device, in one memory pool: no two run at once, and logits are copied in between."""

    def __init__(self, device: torch.device):
        self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def __call__(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Warm up on a side stream, as capturing needs it, then capture there."""
        with torch.cuda.device(self._stream.device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UP):
                    step()
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                logits = step()

        def replay() -> Tensor:
            graph.replay()
            return logits

        return replay


class Key(NamedTuple):
    """The shape of a step, beside that of the buffers: its tokens, and the slots it attends to."""

    queries: int
    bucket: int


def key_of(queries: int, slots: int, capacity: int) -> Key | None:
    """The shape of feeding `queries` tokens to `slots` used slots of `capacity`; None where only the eager way goes."""
    if not slots or queries > MAX_QUERIES or slots + queries > capacity:
        return None
    return Key(queries, whole_blocks(slots + queries))


class StaticLayer(DynamicLayer):
    """A layer's buffers as a step sees them: new keys and values go to `slots`, (queries,); the bucket comes back."""

    def __init__(self, buffers: list[Tensor], slots: Tensor, bucket: int):
        super().__init__()
        self.dtype, self.device, self.is_initialized = buffers[0].dtype, buffers[0].device, True
        self._buffers, self._slots, self._bucket = buffers, slots, bucket

    def update(self, key_states: Tensor, value_states: Tensor, cache_kwargs=None) -> tuple[Tensor, Tensor]:
        """Put (batch, KV heads, queries, head size) into their slots; returns keys and values of the bucket."""
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer.index_copy_(2, self._slots, states)
        keys, values = (buffer[:, :, : self._bucket] for buffer in self._buffers)
        return keys, values

    def get_seq_length(self) -> int:
        """The bucket: what the model makes of it is not used, positions and mask being given."""
        return self._bucket


class Step:
    """One forward at a fixed shape on the buffers of an arena, captured when it is first called."""

    def __init__(self, model: nn.Module, buffers: list[list[Tensor]], key: Key, capture: Capture):
        whole = {"dtype": torch.long, "device": buffers[0][0].device}
        self.tokens = torch.zeros(len(buffers[0][0]), key.queries, **whole)
        self.positions = torch.zeros(1, key.queries, **whole)
        self.slots = torch.zeros(key.queries, **whole)
        self._model, self._key, self._capture = model, key, capture
        self._cache = Cache(layers=[StaticLayer(layer, self.slots, key.bucket) for layer in buffers])
        self._replay: Callable[[], Tensor] | None = None

    def __call__(self, tokens: Tensor, position: int, slot: int) -> Tensor:
        """Logits, (batch, queries, head size), of tokens from `position` on whose keys and values go from `slot` on."""
        self.tokens.copy_(tokens)
        torch.arange(position, position + self._key.queries, out=self.positions[0])
        torch.arange(slot, slot + self._key.queries, out=self.slots)
        if self._replay is None:
            self._replay = self._capture(self._run)
        return self._replay()

    def _run(self) -> Tensor:
        mask = slot_mask(self.slots[None], self._key.bucket, self._model.config, self._model.dtype)
        inputs = {"attention_mask": mask, "position_ids": self.positions, "past_key_values": self._cache}
        return self._model(self.tokens, **inputs, use_cache=True).logits


class _Lent(list):
    """A layer's buffers while they are an arena's: a list that can be referred to weakly."""


class Arena:
    """Keys and values of all layers in buffers that stay, and the steps captured on them; lent to one cache at a time.

    It takes over the buffers of the cache it is made from, which goes on using them.
    """

    def __init__(self, cache: PreallocatedCache):
        self.buffers = [list(layer._buffers) for layer in cache.layers]
        self.shape = self.buffers[0][0].shape
        self.steps: dict[Key, Step] = {}
        for layer in cache.layers:
            for buffer in layer._buffers:
                buffer[:, :, layer.slots :] = 0  # hidden by the mask, but must be finite
        self._lend(cache)

    @property
    def free(self) -> bool:
        """No cache uses these buffers any more: it is gone, or has grown or been compressed into others."""
        return all(lent() is None for lent in self._lent)

    def holds(self, cache: PreallocatedCache) -> bool:
        """The cache's keys and values are in these buffers."""
        return all(lent() is layer._buffers for lent, layer in zip(self._lent, cache.layers, strict=True))

    def take_in(self, cache: PreallocatedCache) -> None:
        """Copy the cache's keys and values here; from now on it uses these buffers."""
        for buffers, layer in zip(self.buffers, cache.layers, strict=True):
            for mine, theirs in zip(buffers, layer._buffers, strict=True):
                mine[:, :, : layer.slots] = theirs[:, :, : layer.slots]
        self._lend(cache)

    def _lend(self, cache: PreallocatedCache) -> None:
        for buffers, layer in zip(self.buffers, cache.layers, strict=True):
            layer._buffers = _Lent(buffers)
        self._lent = [weakref.ref(layer._buffers) for layer in cache.layers]


class StaticSteps:
    """The steps of one model. Arenas outlive the caches they are lent to, and with them the steps captured on them."""

    def __init__(self, capture: Capture):
        self._capture = capture
        self.arenas: list[Arena] = []

    def fit(self, model: nn.Module, cache: PreallocatedCache, tokens: Tensor) -> bool:
        """Whether feeding tokens, (batch, n), to the cache is a step at a fixed shape."""
        first = cache.layers[0]
        return (
            key_of(tokens.shape[1], first.slots, first.capacity) is not None
            and model.config._attn_implementation == ATTENTION
            and all(
                layer.hidden is None and (layer.slots, layer.capacity) == (first.slots, first.capacity)
                for layer in cache.layers
            )
        )

    @torch.inference_mode()
    def feed(self, model: nn.Module, cache: PreallocatedCache, tokens: Tensor) -> Tensor:
        """Append tokens that `fit`; returns the logits after each, (batch, n, head size), until the next step."""
        first, queries = cache.layers[0], tokens.shape[1]
        arena, key = self._arena(cache), key_of(queries, first.slots, first.capacity)
        if key not in arena.steps:
            arena.steps[key] = Step(model, arena.buffers, key, self._capture)
        logits = arena.steps[key](tokens, cache.position, first.slots)
        for layer in cache.layers:
            layer.count(queries)
        return logits

    def _arena(self, cache: PreallocatedCache) -> Arena:
        """The arena that holds the cache, after moving it to a free one, or making one of it, if none does.

        Free ones of another batch size are given up: they can take more memory than there is.
        """
        for arena in self.arenas:
            if arena.holds(cache):
                return arena
        shape = cache.layers[0]._buffers[0].shape
        for arena in self.arenas:
            if arena.free and arena.shape == shape:
                arena.take_in(cache)
                return arena
        self.arenas = [arena for arena in self.arenas if not arena.free or arena.shape[0] == shape[0]]
        self.arenas.append(Arena(cache))
        return self.arenas[-1]
