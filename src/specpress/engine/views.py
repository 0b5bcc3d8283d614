"""The view of an attention layer that presses are given, by the layer's family."""

from torch import nn

from specpress.engine.gpt_neox_view import GPTNeoXView
from specpress.engine.layer_view import LayerView


def layer_view(model: nn.Module, layer: nn.Module, offset: int) -> LayerView:
    """The view of `layer`, an attention layer of `model`; see `LayerView`."""
    kind = GPTNeoXView if hasattr(layer, "query_key_value") else LayerView
    return kind(layer, model.base_model.rotary_emb, offset)
