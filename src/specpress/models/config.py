"""config.json of a model directory: read as it was meant, and refused where it cannot be."""

import json
import math
from pathlib import Path

from transformers import AutoConfig
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from specpress.models.families import family_of

MERGE_ADAPTER = (
    "merge it into its model once, with peft's merge_and_unload() and save_pretrained(FOLDER), and give that folder"
)


_NUMBERS = {int: (int,), float: (int, float)}
_SIZES = {  # the most that is tried: of more layers, each would be made before a weight is missed
    "hidden_size": 10**6, "intermediate_size": 10**7, "num_attention_heads": 10**5, "num_hidden_layers": 10**4,
    "vocab_size": 10**8, "max_position_embeddings": 10**10,
}  # fmt: skip
_KINDS = {int: "a whole number", float: "a number"}


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
    _check_names(stated, file)
    try:
        config = AutoConfig.from_pretrained(directory)
    except Exception as error:  # of whatever kind: transformers and huggingface_hub each have their own
        raise ValueError(f"{file} does not describe a model ({first_line(error)}): get it again") from error
    _check_numbers(stated, config, file)
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


def _check_names(stated: dict, file: Path) -> None:
    """Names that transformers looks up in its tables."""
    activation = stated.get("hidden_act")
    if activation is not None and (not isinstance(activation, str) or activation not in ACT2FN):
        raise ValueError(f"{file}: unknown activation hidden_act {activation!r}; known: {', '.join(sorted(ACT2FN))}")
    types = stated.get("layer_types")
    if types is not None and not (isinstance(types, list) and all(isinstance(kind, str) for kind in types)):
        raise ValueError(f"{file}: layer_types must be a list of names, one a layer, found {types!r}")
    known = ["default", *sorted(ROPE_INIT_FUNCTIONS)]
    known += ["su"] if stated.get("model_type") == "phi3" else []  # what Phi-3 called longrope at first
    for key in ("rope_parameters", "rope_scaling"):
        rope = stated.get(key) or {}
        if not isinstance(rope, dict):
            raise ValueError(f"{file}: {key} must be a mapping, found {rope!r}")
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind not in known:
            raise ValueError(f"{file}: unknown rope type {kind!r} in {key}; known: {', '.join(known)}")


def _check_numbers(stated: dict, config, file: Path) -> None:
    """Numbers that are none: what the family's own configuration has as a number."""
    for key, usual in type(config)().to_dict().items():
        value, wanted = stated.get(key, usual), _NUMBERS.get(type(usual))
        if (
            wanted is None
            or key.endswith("_token_id")
            or (value is None and not (key.endswith("_eps") or key in _SIZES))
        ):
            continue  # none of many others means: as the rest of the file says
        if type(value) not in wanted or not math.isfinite(value):
            raise ValueError(f"{file}: {key} must be {_KINDS[type(usual)]}, found {value!r}")
        if key in _SIZES and not 1 <= value <= _SIZES[key]:
            raise ValueError(f"{file}: {key} must be from 1 to {_SIZES[key]}, found {value}")
    padding = stated.get("pad_token_id")
    if padding is not None and not (type(padding) is int and -1 <= padding < config.vocab_size):
        raise ValueError(f"{file}: pad_token_id must be a token of the {config.vocab_size}, found {padding!r}")


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
