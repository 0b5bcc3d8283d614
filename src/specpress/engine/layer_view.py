"""What a press may read of an attention layer: the layer in Llama's shape, whatever its family.

Presses run on a view, after the forward, and never on the layer: nothing is attached to the model, nothing has to be
taken off again, and one set of mechanics serves both families.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attention_layers(model: nn.Module) -> list[nn.Module]:
    """The attention modules of a Llama or GPT-NeoX causal LM, first layer first."""
    layers = model.base_model.layers
    return [getattr(layer, "self_attn", None) or layer.attention for layer in layers]


class LayerView:
    """A Llama attention layer with the model's rotary embedding beside it, as kvpress expects.

    Parameters
    ----------
    layer : the attention module
    rotary : the model's rotary embedding
    offset : int
        The true position of the first of the hidden states that a press is shown. Presses count positions from these;
        while decoding they are the last few tokens, so positions are moved by `offset`.
    """

    masked_key_indices = None  # where kvpress's masking presses leave their (batch, head, slot) indices

    def __init__(self, layer: nn.Module, rotary: nn.Module, offset: int):
        self._layer = layer
        self.rotary_emb = FullRotary(rotary, offset)

    def __getattr__(self, name: str):
        return getattr(self.__dict__["_layer"], name)

    def shown(self, keys: Tensor) -> Tensor:
        """The cache's keys in the order of channels that the view's projections have."""
        return keys

    def restored(self, keys: Tensor) -> Tensor:
        """The inverse of `shown`."""
        return keys


class FullRotary:
    """A rotary embedding over all channels of a head, `pass_through` pairs of which it leaves as they are."""

    def __init__(self, rotary: nn.Module, offset: int, pass_through: int = 0):
        self._rotary, self._offset, self._pass_through = rotary, offset, pass_through

    @property
    def inv_freq(self) -> Tensor:
        """Angular frequencies of the pairs, (head size / 2,)."""
        return F.pad(self._rotary.inv_freq, (0, self._pass_through))

    def __call__(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(cos, sin), each (batch, tokens, head size), in the dtype of `x`; positions are counted from `offset`."""
        cos, sin = self._rotary(x, position_ids + self._offset)
        half = cos.shape[-1] // 2
        cos = F.pad(cos[..., :half], (0, self._pass_through), value=1.0)
        sin = F.pad(sin[..., :half], (0, self._pass_through))
        return torch.cat([cos, cos], -1), torch.cat([sin, sin], -1)
