"""What is told of a family of models: how its layers are found, and of which parts each is made.

The engine makes its forward pass and the view that presses are given of these parts, so that a family is a file of
facts and no code that computes. What is not said is as in a Llama.
"""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class AttentionParts:
    """An attention layer: maps to queries, keys and values, rotary embedding, softmax attention, and a map out.

    Parameters
    ----------
    module : the layer itself, as hooks and presses know it
    qkv : linear maps of the layer's input; their outputs end to end are the queries' heads, the keys', the values'
    out : the linear map of the heads' results
    heads, kv_heads, head_size : int
    by_head : the output of one fused map lies head by head, each with its query, key and value
    q_norm, k_norm : norms of each head of queries and keys before they are rotated
    window : how many of the last tokens, its own among them, a query sees; None sees all
    """

    module: nn.Module
    qkv: list[nn.Module]
    out: nn.Module
    heads: int
    kv_heads: int
    head_size: int
    by_head: bool = False
    q_norm: nn.Module | None = None
    k_norm: nn.Module | None = None
    window: int | None = None


@dataclass(frozen=True)
class MlpParts:
    """An MLP: `up`, an activation, `down`. `gated`: the first half of up's output, activated, times the second."""

    up: list[nn.Module]
    activation: nn.Module
    down: nn.Module
    gated: bool = True


@dataclass(frozen=True)
class LayerParts:
    """A layer: attention and MLP, each after its norm and added to the stream; one after the other, or `parallel`."""

    attention_norm: nn.Module
    attention: AttentionParts
    mlp_norm: nn.Module
    mlp: MlpParts
    parallel: bool = False


class Family:
    """A family of causal language models.

    `model`, `config` : its classes in transformers; the family is that of `config.model_type`
    """

    model: type
    config: type

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """The layers of a model, the first one first."""
        return list(model.base_model.layers)

    def final_norm(self, model: nn.Module) -> nn.Module:
        """The norm before the output head."""
        return model.base_model.norm

    def attention_module(self, layer: nn.Module) -> nn.Module:
        """The attention of a layer."""
        return layer.self_attn

    def attention(self, module: nn.Module) -> AttentionParts:
        """The parts of what `attention_module` finds."""
        size = module.head_dim
        return AttentionParts(
            module,
            qkv=[module.q_proj, module.k_proj, module.v_proj],
            out=module.o_proj,
            heads=module.q_proj.out_features // size,
            kv_heads=module.k_proj.out_features // size,
            head_size=size,
            window=self.window(module),
        )

    def window(self, module: nn.Module) -> int | None:
        """The window that an attention layer is limited to."""
        return None

    def mlp(self, module: nn.Module) -> MlpParts:
        """The parts of the MLP of a layer."""
        return MlpParts([module.gate_proj, module.up_proj], module.act_fn, module.down_proj)

    def layer(self, layer: nn.Module) -> LayerParts:
        """The parts of a layer."""
        return LayerParts(
            attention_norm=layer.input_layernorm,
            attention=self.attention(self.attention_module(layer)),
            mlp_norm=layer.post_attention_layernorm,
            mlp=self.mlp(layer.mlp),
        )

    def attention_layers(self, model: nn.Module) -> list[nn.Module]:
        """The attention modules of a model, first layer first."""
        return [self.attention_module(layer) for layer in self.layers(model)]

    def small_config(self, kv_heads: int, **sizes):
        """The configuration of a model of these sizes, for one with random weights."""
        return self.config(num_key_value_heads=kv_heads, pad_token_id=None, **sizes)
