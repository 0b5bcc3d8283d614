"""Mistral: a Llama whose layers may see no more than a window of the last tokens (arXiv 2310.06825, section 2)."""

from transformers import MistralConfig, MistralForCausalLM

from specpress.models.families.base import Family


class Mistral(Family):
    """The window is `sliding_window` of the configuration: see `specpress.decoding.models`."""

    model, config = MistralForCausalLM, MistralConfig

    def small_config(self, kv_heads: int, **sizes):
        """See `Family.small_config`; without a window, as Mistral has been since version 0.2."""
        return super().small_config(kv_heads, sliding_window=None, **sizes)
