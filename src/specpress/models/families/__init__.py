"""The families of models that are decoded here, by transformers' `model_type`: one file and one line a family."""

from specpress.models.families.base import Family
from specpress.models.families.gpt_neox import GPTNeoX
from specpress.models.families.llama import Llama
from specpress.models.families.mistral import Mistral
from specpress.models.families.phi3 import Phi3
from specpress.models.families.qwen2 import Qwen2
from specpress.models.families.qwen3 import Qwen3

__all__ = ["FAMILIES", "REFUSED", "Family", "family_of"]

FAMILIES: dict[str, Family] = {
    family.config.model_type: family for family in (Llama(), Mistral(), Qwen2(), Qwen3(), Phi3(), GPTNeoX())
}

# What keeps a family that people ask for from being decoded here.
REFUSED = {
    "gemma2": "its attention caps its scores, and windows alternate with full attention",
    "gemma3": "it reads images too; of its text model see gemma3_text",
    "gemma3_text": "windows alternate with full attention, each with rotary embeddings of its own, where a press "
    "expects one of both for all layers",
}


def family_of(model_type) -> Family:
    """The family of a `model_type`; ValueError, with the reason or those known, for another."""
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        reason = f": {REFUSED[model_type]}" if isinstance(model_type, str) and model_type in REFUSED else ""
        raise ValueError(
            f"model family {model_type!r} is not supported{reason}; supported: {', '.join(sorted(FAMILIES))} "
            "(Llama, SmolLM2, Mistral, Qwen 2 and 3, Phi-3, Pythia, GPT-NeoX, ...)"
        )
    return FAMILIES[model_type]
