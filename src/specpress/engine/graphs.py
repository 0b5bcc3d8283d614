"""Decoding steps at fixed shapes, so that CUDA can record one as a graph and replay it without launching its kernels.

A graph reads and writes fixed addresses. What changes from step to step therefore comes from inputs that stay in place:
the tokens, their positions, the slots that their keys and values go to, and which of them each sees. A step attends to
a bucket of slots of buffers that stay in place too; a mask made from the slots hides those not in use. Tokens are
padded to one of a few sizes: what padding leaves in the slots behind them is written over before anything sees it.

For measuring, every step that an arena, a set of such buffers, will ever be asked for is captured when the first one
is, so that after a warm-up none is captured while a clock runs; `captures` counts them.

Prefills, left padding, observed forwards, texts longer than a window of attention, layers whose slots are hidden or
differ in number, models that only their own modules can run, and more than `MAX_QUERIES` tokens take the ordinary,
eager way. The tests put other recordings in the place of a CUDA graph.
"""

import copy
import warnings
from collections.abc import Iterable, Iterator
from functools import cache as once
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

from specpress.engine.arena import Arena
from specpress.engine.attention import ATTENTION, slot_mask
from specpress.engine.cache import PreallocatedCache, whole_blocks
from specpress.engine.forward import Forward, follows_length, forget, passes_window
from specpress.engine.fused import FusedForward, fused
from specpress.engine.tree import Tree
from specpress.hardware.recording import Capture, CudaGraphs, is_casting

SIZES = (1, 2, 5, 9, 17)  # tokens of a step, after padding: a verification of gamma drafted ones feeds gamma + 1
MAX_QUERIES = SIZES[-1]


class Choice(NamedTuple):
    """What the steps of a model were chosen for: the device it was on, and whether graphs are captured ahead."""

    device: torch.device
    ahead: bool


def use_graphs(model: nn.Module, *, ahead: bool = False) -> bool:
    """Run the decoding steps of `model` as CUDA graphs from now on; returns whether they do.

    On a GPU this is how a model decodes unless it is told otherwise. Where graphs cannot be, decoding stays eager; a
    warning says so, once a process. A model that moves has graphs on whatever GPU it comes to, from the next cache on;
    what was captured on the device it left is given back then.

    ahead : capture every step of a cache when the first one is asked for, so that no later one waits for a capture, as
        measuring needs it: seconds for a large model. By default each is captured when it is first met.
    """
    why = _why_eager(model)
    model.static_steps = StaticSteps(CudaGraphs(model.device), ahead=ahead) if why is None else None
    model.steps_chosen = Choice(model.device, ahead)
    if why is not None:
        _say(why)
    return why is None


def use_eager(model: nn.Module) -> None:
    """Launch the kernels of decoding steps one by one from now on, on any device, and give back what graphs took.

    So do before a model leaves a device whose memory is to be free: what was made for it there keeps its weights there.
    """
    model.static_steps = model.steps_chosen = None
    forget(model)


def free_graphs(model: nn.Module) -> None:
    """Give back the steps captured for `model`, and the buffers that no cache uses; later steps are captured anew."""
    if has_graphs(model):
        model.static_steps.arenas = []
    forget(model)


def steps_of(model: nn.Module) -> "StaticSteps | None":
    """The steps at fixed shapes of a model that a cache was made of; None where it decodes eagerly.

    They are what `has_graphs` chose for the cache: a model takes some microseconds to say where it is.
    """
    return model.static_steps


def has_graphs(model: nn.Module) -> bool:
    """Whether the decoding steps of `model` run as graphs where it is now. A GPU gets graphs, if nobody has chosen."""
    chosen = getattr(model, "steps_chosen", None)
    everywhere = chosen is None and hasattr(model, "static_steps")
    if not everywhere and (chosen is None or chosen.device != model.device):  # the first time, or it has moved
        ahead = chosen is not None and chosen.ahead
        if model.device.type == "cuda":
            use_graphs(model, ahead=ahead)
        else:
            model.static_steps, model.steps_chosen = None, Choice(model.device, ahead)
    return model.static_steps is not None


def is_fused(model: nn.Module) -> bool:
    """Whether steps have been captured for `model`, in kernels of ours."""
    arenas = model.static_steps.arenas if has_graphs(model) else []
    return any(step.fused for arena in arenas for step in arena.steps.values())


def captures(models: Iterable[nn.Module]) -> int:
    """Steps captured so far: a timed run in which this number grows has waited for captures."""
    return sum(model.static_steps.captured for model in models if has_graphs(model))


def spare_slots(model: nn.Module) -> int:
    """Slots beside those of its tokens that a cache of `model` needs, for the padding of its last steps."""
    return MAX_QUERIES if has_graphs(model) else 0


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


class Key(NamedTuple):
    """The shape of a step, beside that of the buffers: its tokens, padding included, and the slots it attends to."""

    queries: int
    bucket: int


def key_of(queries: int, slots: int, capacity: int) -> Key | None:
    """The shape of feeding `queries` tokens to `slots` used slots of `capacity`; None where only the eager way goes."""
    size = next((size for size in SIZES if size >= queries), None)
    if not slots or size is None or slots + size > capacity:
        return None
    return Key(size, next(bucket for bucket in buckets(capacity) if bucket >= slots + size))


def buckets(capacity: int) -> Iterator[int]:
    """The numbers of slots that steps attend to: whole blocks, at most an eighth more than are in use beyond 2048."""
    bucket = 0
    while bucket < capacity:
        step = max(whole_blocks(1), 1 << max(0, bucket.bit_length() - 4))
        bucket = min(bucket + step, capacity)
        yield bucket


class StaticLayer(DynamicLayer):
    """A layer's buffers as a step sees them: new keys and values go to `slots`, (queries,); the bucket comes back."""

    def __init__(self, buffers: list[Tensor], slots: Tensor, bucket: int):
        super().__init__()
        self.dtype, self.device, self.is_initialized = buffers[0].dtype, buffers[0].device, True
        self.buffers, self.slots, self.bucket = buffers, slots, bucket

    def update(self, key_states: Tensor, value_states: Tensor, cache_kwargs=None) -> tuple[Tensor, Tensor]:
        """Put (batch, KV heads, queries, head size) into their slots; returns keys and values of the bucket."""
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer.index_copy_(2, self.slots, states)
        keys, values = (buffer[:, :, : self.bucket] for buffer in self.buffers)
        keys.captured = True  # tells `specpress.engine.attention`
        return keys, values

    def get_seq_length(self) -> int:
        """The bucket: what the model makes of it is not used, positions and mask being given."""
        return self.bucket


class Step:
    """One forward at a fixed shape on the buffers of an arena, captured when it is made."""

    def __init__(self, forward: Forward, config, buffers: list[list[Tensor]], key: Key, capture: Capture):
        whole = {"dtype": torch.long, "device": buffers[0][0].device}
        self.tokens = torch.zeros(len(buffers[0][0]), key.queries, **whole)
        self.positions = torch.arange(key.queries, **whole)[None]
        self.slots = torch.arange(key.queries, **whole)
        self._path = torch.ones(key.queries, key.queries, dtype=torch.bool, device=self.slots.device).tril()
        self.seen = self._path.clone()
        self._forward, self._config, self._key, self._branched = fused(forward, self.slots.device), config, key, False
        self._dtype = buffers[0][0].dtype
        self._cache = Cache(layers=[StaticLayer(layer, self.slots, key.bucket) for layer in buffers])
        self._replay = capture(self._run)

    @property
    def fused(self) -> bool:
        """Whether it runs in kernels of ours."""
        return isinstance(self._forward, FusedForward)

    def __call__(self, tokens: Tensor, position: int, slot: int, tree: Tree | None = None) -> Tensor:
        """Logits, (batch, n, head size), of n tokens from `position` on whose keys and values go from `slot` on.

        tree : of the last of them; see `specpress.engine.cached_model.CachedModel.feed`
        """
        new = tokens.shape[1]
        self.tokens[:, :new].copy_(tokens)
        torch.arange(position, position + self._key.queries, out=self.positions[0])
        torch.arange(slot, slot + self._key.queries, out=self.slots)
        if self._branched:
            self.seen.copy_(self._path)
        self._branched = tree is not None
        if tree is not None:
            before = new - len(tree)
            self.positions[0, before:new].copy_(torch.tensor(tree.depths) + (position + before - 1))
            self.seen[:new, :new].copy_(torch.from_numpy(tree.seen(before)))
        return self._replay()[:, :new]

    def _run(self) -> Tensor:
        mask = slot_mask(self.slots[None], self._key.bucket, self._config, self._dtype, seen=self.seen[None])
        end = longest(self._config)
        return self._forward(self.tokens, self.positions, end, mask, self._cache, keep=self._key.queries)


def longest(config) -> int:
    """One past the last position that a step of a model can have, padding included."""
    return config.max_position_embeddings + MAX_QUERIES


class StaticSteps:
    """The steps of one model. Arenas outlive the caches they are lent to, and with them the steps captured on them.

    ahead : see `use_graphs`
    `captured` : steps captured so far
    """

    def __init__(self, capture: Capture, *, ahead: bool = False):
        self._capture, self._ahead = capture, ahead
        self._forward: Forward | None = None  # whose weights the steps read
        self.arenas: list[Arena] = []
        self.captured = 0

    def __deepcopy__(self, memo) -> "StaticSteps":
        """Those of a copied model, which has yet to capture any: what is captured reads the weights it was made of."""
        return StaticSteps(copy.deepcopy(self._capture, memo), ahead=self._ahead)

    def fit(self, model: nn.Module, forward: Forward | None, cache: PreallocatedCache, tokens: Tensor) -> bool:
        """Whether feeding tokens, (batch, n), to the cache is a step at a fixed shape."""
        first = cache.layers[0]
        return (
            forward is not None
            and forward._embeddings.device == tokens.device  # else the model has moved, which the eager way refuses
            and key_of(tokens.shape[1], first.slots, first.capacity) is not None
            and cache.position + MAX_QUERIES <= longest(model.config)
            and model.config._attn_implementation == ATTENTION
            and not is_casting(tokens.device)
            and not passes_window(forward, first.slots + MAX_QUERIES)
            and all(
                layer.hidden is None and (layer.slots, layer.capacity) == (first.slots, first.capacity)
                for layer in cache.layers
            )
        )

    @torch.inference_mode()
    def feed(
        self, model: nn.Module, forward: Forward, cache: PreallocatedCache, tokens: Tensor, tree: Tree | None = None
    ) -> Tensor:
        """Append tokens that `fit`; returns the logits after each, (batch, n, head size), until the next step."""
        first, new = cache.layers[0], tokens.shape[1]
        arena = self.take_in(forward, cache)
        key = key_of(new, first.slots, first.capacity)
        if key not in arena.steps:
            self._make(arena, model.config, key)
        logits = arena.steps[key](tokens, cache.position, first.slots, tree)
        for layer in cache.layers:
            layer.count(new)
        return logits

    @torch.inference_mode()
    def take_in(self, forward: Forward, cache: PreallocatedCache) -> Arena:
        """The arena that holds the cache, which has moved there if it was elsewhere."""
        if forward is not self._forward:  # other weights than those the steps read
            self._forward, self.arenas = forward, []
        return self._arena(cache)

    def _make(self, arena: Arena, config, key: Key) -> None:
        """Capture a step; ahead of time also those of every size on as many slots and more, which may follow.

        A captured step has run: into the first slots of the buffers, whose keys and values are put back.
        """
        follow = [Key(size, b) for b in buckets(arena.capacity) if b >= key.bucket for size in SIZES if size <= b]
        kept = [[buffer[:, :, :MAX_QUERIES].clone() for buffer in layer] for layer in arena.buffers]
        for each in follow if self._ahead else [key]:
            if each not in arena.steps:
                arena.steps[each] = Step(self._forward, config, arena.buffers, each, self._capture)
                self.captured += 1
        for layer, saved in zip(arena.buffers, kept, strict=True):
            for buffer, first in zip(layer, saved, strict=True):
                buffer[:, :, :MAX_QUERIES] = first

    def _arena(self, cache: PreallocatedCache) -> Arena:
        """The arena that holds the cache, after moving it to the smallest free one with room, or making one of it.

        Free ones are given up then, as they can take more memory than there is: those of another batch size, and those
        that are smaller, as the new one holds what they would; a growing text would leave one of each of its sizes.
        Where steps are captured ahead, smaller ones stay: caches that are used at once may come back, as those of a
        warm-up do, and none of their steps may wait for a capture again.
        """
        for arena in self.arenas:
            if arena.holds(cache):
                return arena
        roomy = [arena for arena in self.arenas if arena.room_for(cache)]
        if roomy:
            arena = min(roomy, key=lambda arena: arena.capacity)
            arena.take_in(cache)
            return arena
        made = Arena(cache)
        # A free one of this batch size is smaller: it had no room.
        kept = [arena for arena in self.arenas if not arena.free or (self._ahead and arena.batch == made.batch)]
        self.arenas = [*kept, made]
        return made
