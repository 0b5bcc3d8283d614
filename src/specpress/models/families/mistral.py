"""Mistral: a Llama whose layers may see no more than a window of the last tokens (arXiv 2310.06825, section 2)."""

from torch import nn
from transformers import MistralConfig, MistralForCausalLM

from specpress.models.families.base import Family


class Mistral(Family):
    """The window, if there is one, is that of all layers."""

    model, config = MistralForCausalLM, MistralConfig

    def window(self, module: nn.Module) -> int | None:
        """See `Family.window`."""
        return module.config.sliding_window

    def small_config(self, kv_heads: int, **sizes):
        """See `Family.small_config`; without a window, as Mistral has been since version 0.2."""
        return super().small_config(kv_heads, sliding_window=None, **sizes)
