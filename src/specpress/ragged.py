"""One cache for rows of different lengths: every row has its own slots and positions, and rolls back on its own.

A row's new keys and values go to the slots after its own; a mask hides from each query what lies past it. Speculative
decoding of a batch needs this: rows accept different numbers of tokens, yet one forward verifies them all.
"""

import copy
from collections.abc import Iterable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from specpress.attention import ATTENTION
from specpress.cache import PreallocatedCache, PreallocatedLayer, whole_blocks
from specpress.cached_model import CachedModel
from specpress.drafters.base import Drafter
from specpress.prefill import read_observed, settle
from specpress.presses.compression import compress
from specpress.presses.observation import Observations, RowObservations, observed_attention

_BLOCK = 256  # buffers grow by this many slots


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
        missing = width - self.buffers[0].shape[2]
        if missing > 0:
            pad = (0, 0, 0, missing + _BLOCK)
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


class RaggedModel:
    """A causal LM on one cache whose rows go their own ways.

    Parameters
    ----------
    cached : CachedModel, whose cache, not compressed yet, this one takes over
    padded : for each row, how many of the tokens last fed are padding on the right and do not count

    `observations` : what was noted of each row for the presses; None notes nothing.
    """

    def __init__(self, cached: CachedModel, padded: Sequence[int]):
        self.model, self._forward = cached.model, cached.forward
        self.cache = Cache(layers=[RaggedLayer(layer) for layer in cached.cache.layers])
        self.slots = [cached.cache.slots - p for p in padded]
        self.lengths = [cached.cache.seen - p for p in padded]  # tokens fed and not taken back
        self._moved_back = [0] * len(padded)  # positions that rotating kept keys to the front has freed
        self.observations = RowObservations(cached.observations, self.lengths) if cached.observations else None

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values in use."""
        a_slot = sum(b.shape[1] * b.shape[3] * b.element_size() for layer in self.cache.layers for b in layer.buffers)
        return sum(self.slots) * a_slot

    def feed(self, tokens: Tensor, counts: Sequence[int]) -> Tensor:
        """Append the first counts[r] tokens of each row r, and forget the others; returns all logits.

        Parameters
        ----------
        tokens : LongTensor (batch, n), padded on the right with any token
        counts : for each row, how many of its tokens count, 0 to n

        Returns
        -------
        Tensor (batch, n, head size). Those after a row's first counts[r] mean nothing.
        """
        step = torch.arange(tokens.shape[1], device=tokens.device)
        slots = torch.tensor(self.slots, device=tokens.device)[:, None]
        places, width = slots + step, max(self.slots) + tokens.shape[1]
        for layer in self.cache.layers:
            layer.places, layer.seen = places, max(self.lengths)
            layer.reserve(width)
        start = torch.tensor(self._positions, device=tokens.device)[:, None]
        seen = Observations(self.model) if self.observations else None
        logits = self._run(tokens, start + step, self._mask(places, width), seen)
        if seen:
            self.observations.append(seen, self.lengths, counts)
        self._count(counts)
        return logits

    def _run(self, tokens: Tensor, positions: Tensor, mask: Tensor, seen: Observations | None) -> Tensor:
        if self._forward is not None and self.model.config._attn_implementation == ATTENTION:
            end, noted = max(self._positions) + tokens.shape[1], seen.layers if seen else None
            return self._forward(tokens, positions, end, mask, self.cache, tokens.shape[1], noted)
        with torch.inference_mode(), observed_attention(self.model, seen) if seen else nullcontext():
            return self.model(
                tokens, attention_mask=mask, position_ids=positions, past_key_values=self.cache, use_cache=True
            ).logits

    def _count(self, tokens: Iterable[int]) -> None:
        tokens = list(tokens)
        self.slots = [a + n for a, n in zip(self.slots, tokens, strict=True)]
        self.lengths = [a + n for a, n in zip(self.lengths, tokens, strict=True)]

    @property
    def _positions(self) -> list[int]:
        """Of the next token of each row; see `PreallocatedCache.position`."""
        return [length - moved for length, moved in zip(self.lengths, self._moved_back, strict=True)]

    def _mask(self, places: Tensor, width: int) -> Tensor:
        """Additive mask, (batch, 1, groups * n, width): a query sees the slots up to its own place."""
        config, dtype = self.model.config, self.model.dtype
        hidden = torch.arange(width, device=places.device) > places[:, None, :, None]
        mask = torch.zeros(hidden.shape, dtype=dtype, device=places.device)
        heads = config.num_attention_heads
        groups = heads // (getattr(config, "num_key_value_heads", None) or heads)
        return mask.masked_fill_(hidden, torch.finfo(dtype).min).repeat(1, 1, groups, 1)

    def rollback_to(self, lengths: Sequence[int]) -> None:
        """Take back tokens of each row r until at most lengths[r] remain."""
        self._count(min(0, length - have) for length, have in zip(lengths, self.lengths, strict=True))

    def clone(self) -> "RaggedModel":
        """The same model on a copy of its cache; what was observed is shared."""
        clone = copy.copy(self)
        clone.cache = copy.deepcopy(self.cache)
        clone.slots, clone.lengths, clone._moved_back = list(self.slots), list(self.lengths), list(self._moved_back)
        return clone

    def compressed(self, r: int, press, budget: int | None = None, decoding: bool = False) -> PreallocatedCache:
        """A copy of row r's cache, compressed as if the row were alone; see `CachedModel.compress`."""
        cache = PreallocatedCache(len(self.cache.layers), self.slots[r])
        for layer, ragged in zip(cache.layers, self.cache.layers, strict=True):
            layer.update(*(buffer[r : r + 1, :, : self.slots[r]] for buffer in ragged.buffers))
            layer.seen = self.lengths[r]
        cache.moved_back = self._moved_back[r]
        compress(cache, press, self.observations.rows[r], budget, decoding)
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
        for mine, layer in zip(self.cache.layers, cache.layers, strict=True):
            mine.put(r, layer)
            mine.shrink(max(0, before - max(self.slots)))

    def compress(
        self, press, budget: int | None = None, decoding: bool = False, rows: Iterable[int] | None = None
    ) -> None:
        """Compress the caches of these rows, all if None; see `compressed`."""
        for r in range(len(self.slots)) if rows is None else rows:
            self.put(r, self.compressed(r, press, budget, decoding))


def read_rows(
    cached: CachedModel,
    rows: Sequence[Tensor],
    *,
    press=None,
    budget: int | None = None,
    drafter: Drafter | None = None,
) -> tuple[RaggedModel, Tensor]:
    """`prefill` for rows, LongTensor (n,) each; returns the model on its ragged cache, and the logits after each row.

    Shorter rows are padded on the right, which causal attention hides from their tokens.
    """
    lengths = [len(row) for row in rows]
    longest = max(lengths)
    tokens = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    logits = read_observed(cached, tokens, press, drafter, keep=longest - min(lengths) + 1)
    ragged = RaggedModel(cached, [longest - length for length in lengths])
    settle(ragged, press, budget, drafter)
    last = torch.tensor(lengths, device=tokens.device) - min(lengths)
    return ragged, logits[torch.arange(len(rows), device=tokens.device), last]
