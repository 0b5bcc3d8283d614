"""Qwen2 and Qwen2.5: a Llama with biases in the maps to queries, keys and values (arXiv 2407.10671, section 2.2)."""

from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from specpress.models.families.base import Family


class Qwen2(Family):
    """The maps bring their biases along."""

    model, config = Qwen2ForCausalLM, Qwen2Config

    def window(self, module: nn.Module) -> int | None:
        """See `Family.window`; some layers may have one and others not."""
        return module.sliding_window
