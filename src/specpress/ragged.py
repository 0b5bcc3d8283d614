"""One cache for rows of different lengths: every row has its own slots and positions, and rolls back on its own.

A row's new keys and values go to the slots after its own; a mask hides from each query what lies past it. Speculative
decoding of a batch needs this: rows accept different numbers of tokens, yet one forward verifies them all.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from specpress.attention import ATTENTION
from specpress.cache import PreallocatedLayer
from specpress.cached_model import CachedModel
from specpress.drafters.base import Drafter
from specpress.prefill import prefill

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
        for buffer in self.buffers:
            buffer[:, :, layer.slots :] = 0  # hidden by the mask, but must be finite

    def reserve(self, width: int) -> None:
        """Make room for `width` slots, all of which the next forward returns."""
        missing = width - self.buffers[0].shape[2]
        if missing > 0:
            pad = (0, 0, 0, missing + _BLOCK)
            self.buffers = [torch.nn.functional.pad(buffer, pad) for buffer in self.buffers]
        self.width = width

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
    cached : CachedModel, whose cache this one takes over
    padded : for each row, how many of the tokens last fed are padding on the right and do not count

    Raises
    ------
    ValueError
        If the cache was compressed to a different number of slots in each layer, or to slots that are there but hidden.
    """

    def __init__(self, cached: CachedModel, padded: Sequence[int]):
        self.model, self._forward = cached.model, cached.forward
        layers = cached.cache.layers
        if len({layer.slots for layer in layers}) > 1 or any(layer.hidden is not None for layer in layers):
            raise ValueError(
                "drafting for a batch needs a press that keeps the same number of slots in every layer; "
                "take another press, or decode one sequence at a time"
            )
        self.cache = Cache(layers=[RaggedLayer(layer) for layer in layers])
        self.slots = [cached.cache.slots - p for p in padded]
        self.lengths = [cached.cache.seen - p for p in padded]  # tokens fed and not taken back
        self._shift = cached.cache.moved_back

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
            layer.places = places
            layer.reserve(width)
        positions = torch.tensor(self.lengths, device=tokens.device)[:, None] - self._shift + step
        logits = self._run(tokens, positions, self._mask(places, width))
        self.slots = [a + n for a, n in zip(self.slots, counts, strict=True)]
        self.lengths = [a + n for a, n in zip(self.lengths, counts, strict=True)]
        return logits

    def _run(self, tokens: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        if self._forward is not None and self.model.config._attn_implementation == ATTENTION:
            end = max(self.lengths) - self._shift + tokens.shape[1]
            return self._forward(tokens, positions, end, mask, self.cache, keep=tokens.shape[1])
        with torch.inference_mode():
            return self.model(
                tokens, attention_mask=mask, position_ids=positions, past_key_values=self.cache, use_cache=True
            ).logits

    def _mask(self, places: Tensor, width: int) -> Tensor:
        """Additive mask, (batch, 1, groups * n, width): a query sees the slots up to its own place."""
        config, dtype = self.model.config, self.model.dtype
        hidden = torch.arange(width, device=places.device) > places[:, None, :, None]
        mask = torch.zeros(hidden.shape, dtype=dtype, device=places.device)
        heads = config.num_attention_heads
        groups = heads // (getattr(config, "num_key_value_heads", None) or heads)
        return mask.masked_fill_(hidden, torch.finfo(dtype).min).repeat(1, 1, groups, 1)

    def rollback(self, tokens: Sequence[int]) -> None:
        """Take back the last tokens[r] tokens of each row r."""
        self.slots = [a - n for a, n in zip(self.slots, tokens, strict=True)]
        self.lengths = [a - n for a, n in zip(self.lengths, tokens, strict=True)]


def read_rows(
    cached: CachedModel, rows: Sequence[Tensor], *, press=None, drafter: Drafter | None = None
) -> tuple[RaggedModel, Tensor]:
    """Prefill rows, LongTensor (n,) each, into an empty cache; returns it as ragged, and the logits after each row.

    Shorter rows are padded on the right, which causal attention hides from their tokens.
    """
    lengths = [len(row) for row in rows]
    longest = max(lengths)
    tokens = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    logits = prefill(cached, tokens, press=press, drafter=drafter, keep=longest - min(lengths) + 1)
    last = torch.tensor(lengths, device=tokens.device) - min(lengths)
    after = logits[torch.arange(len(rows), device=tokens.device), last]
    return RaggedModel(cached, [longest - length for length in lengths]), after
