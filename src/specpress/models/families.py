"""The families of models that are decoded here, by transformers' `model_type`."""

from transformers import GPTNeoXForCausalLM, LlamaForCausalLM

FAMILIES = {"llama": LlamaForCausalLM, "gpt_neox": GPTNeoXForCausalLM}


def family_of(model_type: str) -> type:
    """The class of a family; ValueError, with those known, for another."""
    if model_type not in FAMILIES:
        raise ValueError(
            f"model family {model_type!r} is not supported; supported: {', '.join(sorted(FAMILIES))} "
            "(Llama, SmolLM2, ... and Pythia, GPT-NeoX)"
        )
    return FAMILIES[model_type]
