"""What a press may read of an attention layer: the layer in Llama's shape, whatever its family.

kvpress knows attention layers of Llama's shape: separate query and key projections, and a rotary embedding that turns
all channels of a head, channel i paired with i + d/2. Other families fuse the projections, norm the heads before they
are rotated, or turn only the first r of d channels, i paired with i + r/2. Read as they are, they give silently wrong
scores. Presses run on a view, after the forward, and never on the layer: nothing is attached to the model, nothing has
to be taken off again, it computes and saves what it always did.

Where part of the channels is turned, the view permutes them. In the order [0, r/2), [r, r+p), [r/2, r), [r+p, d) with
p = (d - r)/2, every turned channel sits d/2 before its partner, and the p pass-through pairs are turned by frequency 0,
that is not at all: a full rotary embedding that is the partial one. Queries and keys permuted alike have the same dot
products and norms, so every score is what it would be on a Llama layer with these weights. The order is applied to what
a press is shown and undone on what it returns.
"""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specpress.models.families import family_of
from specpress.models.families.base import AttentionParts


def attention_layers(model: nn.Module) -> list[nn.Module]:
    """The attention modules of a causal LM, first layer first."""
    return family_of(model.config.model_type).attention_layers(model)


def layer_view(model: nn.Module, layer: nn.Module, offset: int) -> "LayerView":
    """The view of `layer`, one of the `attention_layers` of `model`; see `LayerView`."""
    return LayerView(family_of(model.config.model_type).attention(layer), model.base_model.rotary_emb, offset)


def channel_order(head_size: int, rotary: int) -> list[int]:
    """For each channel of the full rotary embedding, the channel of the partial one (`rotary` of `head_size`)."""
    middle = rotary + (head_size - rotary) // 2
    turned = range(rotary // 2), range(rotary // 2, rotary)
    return [*turned[0], *range(rotary, middle), *turned[1], *range(middle, head_size)]


class LayerView:
    """A Llama attention layer with the model's rotary embedding beside it, as kvpress expects.

    Parameters
    ----------
    parts : of the attention layer
    rotary : the model's rotary embedding
    offset : int
        The true position of the first of the hidden states that a press is shown. Presses count positions from these;
        while decoding they are the last few tokens, so positions are moved by `offset`.
    """

    masked_key_indices = None  # where kvpress's masking presses leave their (batch, head, slot) indices

    def __init__(self, parts: AttentionParts, rotary: nn.Module, offset: int):
        self._layer, self._parts = parts.module, parts
        self.o_proj, self.head_dim = parts.out, parts.head_size
        self.num_key_value_groups = parts.heads // parts.kv_heads
        self.config = copy.copy(parts.module.config)
        self.config.head_dim, self.config.num_key_value_heads = parts.head_size, parts.kv_heads
        turned = 2 * len(rotary.inv_freq)
        self._order = None if turned == parts.head_size else channel_order(parts.head_size, turned)
        self.rotary_emb = FullRotary(rotary, offset, pass_through=(parts.head_size - turned) // 2)

    def __getattr__(self, name: str):
        return getattr(self.__dict__["_layer"], name)

    def shown(self, keys: Tensor) -> Tensor:
        """The cache's keys in the order of channels that the view's projections have."""
        return keys if self._order is None else keys[..., self._order]

    def restored(self, keys: Tensor) -> Tensor:
        """The inverse of `shown`."""
        if self._order is None:
            return keys
        original = keys.new_empty(keys.shape)
        original[..., self._order] = keys
        return original

    def q_proj(self, hidden_states: Tensor) -> Tensor:
        """Queries before rotation, normed where the layer norms them: (batch, tokens, heads * head size)."""
        return self.shown(_normed(self._project(hidden_states, 0), self._parts.q_norm)).flatten(2)

    def k_proj(self, hidden_states: Tensor) -> Tensor:
        """Keys before rotation, likewise: (batch, tokens, KV heads * head size)."""
        return self.shown(_normed(self._project(hidden_states, 1), self._parts.k_norm)).flatten(2)

    def v_proj(self, hidden_states: Tensor) -> Tensor:
        """Values: (batch, tokens, KV heads * head size)."""
        return self._project(hidden_states, 2).flatten(2)

    def _project(self, hidden_states: Tensor, which: int) -> Tensor:
        """Heads of queries (0), keys (1) or values (2), (batch, tokens, heads, head size), in the layer's own order."""
        maps = self._parts.qkv
        if len(maps) == 3:
            output = maps[which](hidden_states)
        else:
            weight, bias = (None if x is None else self._rows(x, which) for x in (maps[0].weight, maps[0].bias))
            output = F.linear(hidden_states, weight, bias)
        return output.unflatten(-1, (-1, self.head_dim))

    def _rows(self, fused: Tensor, which: int) -> Tensor:
        """The rows of queries, keys or values in a weight, or bias, that gives all three."""
        parts = self._parts
        if parts.by_head:
            return fused.view(-1, 3, self.head_dim, *fused.shape[1:])[:, which].flatten(0, 1)
        return fused.split([self.head_dim * n for n in (parts.heads, parts.kv_heads, parts.kv_heads)])[which]


def _normed(heads: Tensor, norm: Callable[[Tensor], Tensor] | None) -> Tensor:
    return heads if norm is None else norm(heads)


class FullRotary:
    """A rotary embedding over all channels of a head, `pass_through` pairs of which it leaves as they are.

    The model's own is asked by a copy: some presses ask for positions that the text has not come to, and types that
    follow the length of a text would go on with the frequencies of that length.
    """

    def __init__(self, rotary: nn.Module, offset: int, pass_through: int = 0):
        self._rotary, self._offset, self._pass_through = rotary, offset, pass_through

    @property
    def inv_freq(self) -> Tensor:
        """Angular frequencies of the pairs, (head size / 2,)."""
        return F.pad(self._rotary.inv_freq, (0, self._pass_through))

    def __call__(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(cos, sin), each (batch, tokens, head size), in the dtype of `x`; positions are counted from `offset`."""
        cos, sin = _apart(self._rotary)(x, position_ids + self._offset)
        half = cos.shape[-1] // 2
        cos = F.pad(cos[..., :half], (0, self._pass_through), value=1.0)
        sin = F.pad(sin[..., :half], (0, self._pass_through))
        return torch.cat([cos, cos], -1), torch.cat([sin, sin], -1)


def _apart(rotary: nn.Module) -> nn.Module:
    """A copy that shares the tensors of `rotary`, and may hold others in their place without changing it."""
    apart = copy.copy(rotary)
    apart._buffers = dict(rotary._buffers)
    return apart
