"""config.json of a model directory: read as it was meant, and refused where it cannot be."""

import json
from pathlib import Path

from transformers import AutoConfig

from specpress.models.families import family_of
from specpress.models.stated import check_numbers, check_stated

MERGE_ADAPTER = (
    "merge it into its model once, with peft's merge_and_unload() and save_pretrained(FOLDER), and give that folder"
)


def read_config(directory: Path):
    """What config.json says; no code beside it is run.

    Raises
    ------
    ValueError
        If it is not the configuration of a model that can be loaded here; the message says what to do.
    """
    file = directory / "config.json"
    stated = _json_object(file)
    try:
        family_of(stated.get("model_type"))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    check_quantization(stated.get("quantization_config"), str(directory))
    check_stated(stated, file)
    try:
        config = AutoConfig.from_pretrained(directory)
    except Exception as error:  # of whatever kind: transformers and huggingface_hub each have their own
        raise ValueError(f"{file} does not describe a model ({first_line(error)}): get it again") from error
    check_numbers(stated, config, file)
    _restore_partial_rotary(config, stated)
    try:
        check_heads(config)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return config


def keep_partial_rotary(config) -> None:
    """Have the share of the channels that a GPT-NeoX rotates written where transformers reads it.

    transformers 5.2 writes it into `rope_parameters` and, on reading, replaces it by `rotary_pct` or a quarter
    (its issue 44913).
    """
    if config.model_type == "gpt_neox":
        config.rotary_pct = config.rope_parameters["partial_rotary_factor"]


def _restore_partial_rotary(config, stated: dict) -> None:
    """The share that the file states, also where transformers does not look for it; see `keep_partial_rotary`."""
    rope = stated.get("rope_parameters")
    if config.model_type == "gpt_neox" and "rotary_pct" not in stated and isinstance(rope, dict):
        config.rope_parameters["partial_rotary_factor"] = rope.get(
            "partial_rotary_factor", config.rope_parameters["partial_rotary_factor"]
        )


def check_quantization(stated, where: str) -> None:
    """Raise ValueError for a model whose weights are stored quantised: `stated` is its `quantization_config`."""
    if stated is None:
        return
    if not isinstance(stated, dict):
        stated = stated.to_dict() if hasattr(stated, "to_dict") else {}
    method = stated.get("quant_method") or ("bitsandbytes" if {"load_in_4bit", "load_in_8bit"} & stated.keys() else "")
    named = f" ({method})" if method else ""
    raise ValueError(
        f"{where}: its weights are quantised{named}, which is not decoded here; give the model in bfloat16, float16 or "
        "float32, from which it was made"
    )


def check_heads(config) -> None:
    """Raise ValueError for attention heads that do not fit each other."""
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    if heads < 1 or kv_heads < 1 or heads % kv_heads:
        raise ValueError(
            f"the model has {heads} attention heads and {kv_heads} key-value heads: the first must be a multiple of "
            "the second"
        )
    if not getattr(config, "head_dim", None) and config.hidden_size % heads:
        raise ValueError(
            f"the model's hidden size of {config.hidden_size} is not a multiple of its {heads} attention heads, and no "
            "head_dim is given"
        )


def _json_object(file: Path) -> dict:
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON ({error}): get it again") from error
    if not isinstance(stated, dict):
        raise ValueError(
            f"{file} holds {type(stated).__name__}, where an object such as "
            '{"model_type": "llama", ...} is expected: get it again'
        )
    return stated


def first_line(error: Exception) -> str:
    """What an error of another library says first: of torch, its own calls follow."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__
