"""Phi-3 and Phi-4: a Llama with fused maps (arXiv 2404.14219, section 2); Phi-4-mini rotates part of the channels."""

from torch import nn
from transformers import Phi3Config, Phi3ForCausalLM

from specpress.models.families.base import AttentionParts, Family, MlpParts


class Phi3(Family):
    """One map gives queries, keys and values, one gate and up."""

    model, config = Phi3ForCausalLM, Phi3Config

    def attention(self, module: nn.Module) -> AttentionParts:
        """See `Family.attention`."""
        return AttentionParts(
            module,
            qkv=[module.qkv_proj],
            out=module.o_proj,
            heads=module.config.num_attention_heads,
            kv_heads=module.num_key_value_heads,
            head_size=module.head_dim,
            window=module.config.sliding_window,
        )

    def mlp(self, module: nn.Module) -> MlpParts:
        """See `Family.mlp`."""
        return MlpParts([module.gate_up_proj], module.activation_fn, module.down_proj)
