"""What config.json states, key by key: values that transformers would take as they are, and decode another text by."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

_NUMBERS = {int: (int,), float: (int, float)}
_KINDS = {int: "a whole number", float: "a number"}
_SIZES = {  # the most that is tried: of more layers, each would be made before a weight is missed
    "hidden_size": 10**6, "intermediate_size": 10**7, "num_attention_heads": 10**5, "num_hidden_layers": 10**4,
    "vocab_size": 10**8, "max_position_embeddings": 10**10,
}  # fmt: skip
_SWITCHES = ("attention_bias", "mlp_bias", "tie_word_embeddings", "use_sliding_window", "use_parallel_residual")


def check_stated(stated: dict, file: Path) -> None:
    """Refuse names that transformers looks up in its tables and values of the wrong kind.

    Raises
    ------
    ValueError
        With the key.
    """
    activation = stated.get("hidden_act")
    if activation is not None and (not isinstance(activation, str) or activation not in ACT2FN):
        raise ValueError(f"{file}: unknown activation hidden_act {activation!r}; known: {', '.join(sorted(ACT2FN))}")
    types = stated.get("layer_types")
    if types is not None and not (isinstance(types, list) and all(isinstance(kind, str) for kind in types)):
        raise ValueError(f"{file}: layer_types must be a list of names, one a layer, found {types!r}")
    for key in _SWITCHES:
        if not isinstance(stated.get(key), bool | None):
            raise ValueError(f"{file}: {key} must be true or false, found {stated[key]!r}")
    if (window := stated.get("sliding_window")) is not None and not _is_count(window):
        raise ValueError(f"{file}: sliding_window must be a whole number from 1 on, or null, found {window!r}")
    _check_values(stated, _OF_ROTATION, f"{file}: ")
    for key in ("rope_parameters", "rope_scaling"):
        rope = stated.get(key) or {}
        if not isinstance(rope, dict):
            raise ValueError(f"{file}: {key} must be a mapping, found {rope!r}")
        _check_rope(rope, stated.get("model_type"), key, file)


def _check_rope(rope: dict, model_type, key: str, file: Path) -> None:
    known = ["default", *sorted(ROPE_INIT_FUNCTIONS)]
    known += ["su"] if model_type == "phi3" else []  # what Phi-3 called longrope at first
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in known:
        raise ValueError(f"{file}: unknown rope type {kind!r} in {key}; known: {', '.join(known)}")
    _check_values(rope, _OF_ROTATION | _OF_ROPE, f"{file}: {key}.")


def _check_values(stated: dict, rules: dict[str, tuple[Callable[[Any], bool], str]], where: str) -> None:
    for key, (holds, wanted) in rules.items():
        if stated.get(key) is not None and not holds(stated[key]):
            raise ValueError(f"{where}{key} must be {wanted}, found {stated[key]!r}")


def _is_number(value) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_positive(value) -> bool:
    return _is_number(value) and value > 0


def _is_count(value) -> bool:
    return type(value) is int and value >= 1


_POSITIVE = (_is_positive, "a positive number")
_FACTORS = (lambda value: isinstance(value, list) and all(map(_is_positive, value)), "a list of positive numbers")
_OF_ROTATION = {
    **dict.fromkeys(("rope_theta", "rotary_emb_base"), _POSITIVE),
    **dict.fromkeys(
        ("rotary_pct", "partial_rotary_factor"),
        (lambda value: _is_positive(value) and value <= 1, "a number above 0, at most 1"),
    ),
    "original_max_position_embeddings": (_is_count, "a whole number from 1 on"),
}
_OF_ROPE = {
    **dict.fromkeys(("factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow"), _POSITIVE),
    **dict.fromkeys(("attention_factor", "mscale", "mscale_all_dim"), (_is_number, "a number")),
    **dict.fromkeys(("short_factor", "long_factor"), _FACTORS),
}


def check_numbers(stated: dict, config, file: Path) -> None:
    """Refuse numbers that are none, of what the family's own configuration has as a number, and sizes beyond bounds.

    Raises
    ------
    ValueError
        With the key.
    """
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
