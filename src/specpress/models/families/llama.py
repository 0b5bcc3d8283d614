"""Llama, SmolLM2 and the many that share their architecture: the parts that `base` has for all."""

from transformers import LlamaConfig, LlamaForCausalLM

from specpress.models.families.base import Family


class Llama(Family):
    """Separate maps for queries, keys and values, rotary embedding of all channels, gated MLP."""

    model, config = LlamaForCausalLM, LlamaConfig
