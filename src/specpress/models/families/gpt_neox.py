"""GPT-NeoX and Pythia (arXiv 2204.06745, section 2): a quarter of the channels rotated, layer norms, biases.

Queries, keys and values come from one map, head by head; attention and MLP lie side by side on the same stream.
"""

from dataclasses import replace

from torch import nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from specpress.models.families.base import AttentionParts, Family, LayerParts, MlpParts


class GPTNeoX(Family):
    """As many key-value heads as heads."""

    model, config = GPTNeoXForCausalLM, GPTNeoXConfig

    def final_norm(self, model: nn.Module) -> nn.Module:
        """See `Family.final_norm`."""
        return model.base_model.final_layer_norm

    def attention_module(self, layer: nn.Module) -> nn.Module:
        """See `Family.attention_module`."""
        return layer.attention

    def attention(self, module: nn.Module) -> AttentionParts:
        """See `Family.attention`."""
        heads = module.config.num_attention_heads
        return AttentionParts(
            module,
            qkv=[module.query_key_value],
            out=module.dense,
            heads=heads,
            kv_heads=heads,
            head_size=module.head_size,
            by_head=True,
        )

    def layer(self, layer: nn.Module) -> LayerParts:
        """See `Family.layer`."""
        return replace(super().layer(layer), parallel=layer.use_parallel_residual)

    def mlp(self, module: nn.Module) -> MlpParts:
        """See `Family.mlp`."""
        return MlpParts([module.dense_h_to_4h], module.act, module.dense_4h_to_h, gated=False)

    def small_config(self, kv_heads: int, **sizes):
        """See `Family.small_config`; a quarter of the channels is rotated, as in Pythia."""
        rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}
        return self.config(rope_parameters=rope, **sizes)
