"""A GPT-NeoX attention layer as kvpress can read it: an exact permutation of its channels, made on reading.

kvpress knows attention layers of Llama's shape: separate query and key projections, and a rotary embedding that turns
all channels of a head, channel i paired with i + d/2. GPT-NeoX (Pythia) fuses the projections and turns only the first
r of d channels, i paired with i + r/2. Read as they are, its keys give silently wrong scores.

In the order [0, r/2), [r, r+p), [r/2, r), [r+p, d) with p = (d - r)/2, every turned channel sits d/2 before its
partner, and the p pass-through pairs are turned by frequency 0, that is not at all: a full rotary embedding that is the
partial one. Queries and keys permuted alike have the same dot products and norms, so every score is what it would be on
a Llama layer with these weights. The order is applied to what a press is shown and undone on what it returns; the model
itself is never changed, so it computes and saves what it always did.
"""

import copy

import torch.nn.functional as F
from torch import Tensor, nn

from specpress.engine.layer_view import FullRotary, LayerView


def channel_order(head_size: int, rotary: int) -> list[int]:
    """For each channel of the full rotary embedding, the channel of the partial one (`rotary` of `head_size`)."""
    middle = rotary + (head_size - rotary) // 2
    turned = range(rotary // 2), range(rotary // 2, rotary)
    return [*turned[0], *range(rotary, middle), *turned[1], *range(middle, head_size)]


class GPTNeoXView(LayerView):
    """See `LayerView`; `layer` is a GPTNeoXAttention."""

    def __init__(self, layer: nn.Module, rotary: nn.Module, offset: int):
        super().__init__(layer, rotary, offset)
        heads = layer.config.num_attention_heads
        self.head_dim, self.num_key_value_groups = layer.head_size, 1
        self.config = copy.copy(layer.config)
        self.config.head_dim, self.config.num_key_value_heads = layer.head_size, heads
        self.rotary_emb = FullRotary(rotary, offset, pass_through=(layer.head_size - layer.rotary_ndims) // 2)
        self.o_proj = layer.dense
        self._order = channel_order(layer.head_size, layer.rotary_ndims)

    def shown(self, keys: Tensor) -> Tensor:
        """See `LayerView.shown`."""
        return keys[..., self._order]

    def restored(self, keys: Tensor) -> Tensor:
        """See `LayerView.restored`."""
        original = keys.new_empty(keys.shape)
        original[..., self._order] = keys
        return original

    def q_proj(self, hidden_states: Tensor) -> Tensor:
        """Queries before rotation: (batch, tokens, heads * head size), permuted."""
        return self._project(hidden_states, 0, self._order)

    def k_proj(self, hidden_states: Tensor) -> Tensor:
        """Keys before rotation: (batch, tokens, heads * head size), permuted."""
        return self._project(hidden_states, 1, self._order)

    def v_proj(self, hidden_states: Tensor) -> Tensor:
        """Values: (batch, tokens, heads * head size)."""
        return self._project(hidden_states, 2, list(range(self.head_dim)))

    def _project(self, hidden_states: Tensor, which: int, order: list[int]) -> Tensor:
        """The rows of query (0), key (1) or value (2) in the fused weight, (heads, 3, head size, hidden size)."""
        fused = self._layer.query_key_value

        def rows(parameter: Tensor) -> Tensor:
            return parameter.view(-1, 3, self.head_dim, *parameter.shape[1:])[:, which, order].flatten(0, 1)

        return F.linear(hidden_states, rows(fused.weight), None if fused.bias is None else rows(fused.bias))
