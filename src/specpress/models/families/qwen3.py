"""Qwen3: a Llama that normalises every head of queries and keys before it is rotated (arXiv 2505.09388, section 2)."""

from dataclasses import replace

from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from specpress.models.families.base import AttentionParts, Family


class Qwen3(Family):
    """Its heads may be of another size than hidden size over heads."""

    model, config = Qwen3ForCausalLM, Qwen3Config

    def window(self, module: nn.Module) -> int | None:
        """See `Family.window`; some layers may have one and others not."""
        return module.sliding_window

    def attention(self, module: nn.Module) -> AttentionParts:
        """See `Family.attention`."""
        return replace(super().attention(module), q_norm=module.q_norm, k_norm=module.k_norm)

    def small_config(self, kv_heads: int, **sizes):
        """See `Family.small_config`."""
        return super().small_config(kv_heads, head_dim=sizes["hidden_size"] // sizes["num_attention_heads"], **sizes)
