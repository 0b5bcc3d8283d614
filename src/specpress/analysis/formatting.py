"""Numbers as the paper writes them, in plain text, which LaTeX and HTML escape each in its way.

A gap is a dash, a minus sign is one, and spaces inside a number do not break.
"""

import math
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

DASH = "\u2014"
MINUS = "\u2212"
THIN, TIED = "\u2009", "\u00a0"  # spaces: between groups of digits, and before a unit
BYTE_UNITS = ("bytes", "KiB", "MiB", "GiB")


def fixed(value: float, decimals: int = 2) -> str:
    """A number with a fixed number of decimals; one that is not defined is a dash."""
    return DASH if is_missing(value) else _minus(f"{value:.{decimals}f}")


def significant(value: float, digits: int = 3) -> str:
    """A number with `digits` significant digits, never in exponential notation.

    >>> [significant(x) for x in (0.012345, 3.14159, 41.27, 1234.6)]
    ['0.0123', '3.14', '41.3', '1235']
    """
    if is_missing(value):
        return DASH
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    rounded = round(value, digits - 1 - magnitude)
    magnitude = math.floor(math.log10(abs(rounded))) if rounded else 0  # 9.996 has one more digit than it seems
    return _minus(f"{value:.{max(0, digits - 1 - magnitude)}f}")


def integer(value: float) -> str:
    """A whole number with thin spaces between groups of three digits, from five digits on."""
    if is_missing(value):
        return DASH
    text = f"{round(value):,}" if abs(value) >= 10_000 else f"{round(value)}"
    return _minus(text.replace(",", THIN))


def large(value: float) -> str:
    """A whole number, in millions or billions from a million on, with three significant digits.

    >>> [large(n) for n in (4096, 134_515_008, 2_775_208_960)]
    ['4096', '135\\xa0million', '2.78\\xa0billion']
    """
    if is_missing(value):
        return DASH
    for scale, name in ((10**9, "billion"), (10**6, "million")):
        if abs(value) >= scale:
            return f"{significant(value / scale)}{TIED}{name}"
    return integer(value)


def percent(value: float, decimals: int = 0) -> str:
    """A share as a percentage."""
    return DASH if is_missing(value) else _minus(f"{100 * value:.{decimals}f}%")


def size(value: float) -> str:
    """Bytes in the largest binary unit of which there is at least one, three significant digits."""
    if is_missing(value):
        return DASH
    power = max((p for p in range(4) if abs(value) >= 1024**p), default=0)
    return f"{significant(value / 1024**power)}{TIED}{BYTE_UNITS[power]}"


def unit_of_sizes(values: Iterable[float]) -> tuple[str, int]:
    """The one unit for a column of byte counts, so that the largest has at least one of it: (name, bytes)."""
    largest = max((abs(value) for value in values if not is_missing(value)), default=0)
    power = max((p for p in range(4) if largest >= 1024**p), default=0)
    return BYTE_UNITS[power], 1024**power


def is_missing(value: object) -> bool:
    """Whether there is no value: None or NaN."""
    return value is None or bool(pd.isna(value))


# How a metric is written, in the tables and in the text alike; a time to first token is written in ms.
FORMATS: Mapping[str, Callable[[float], str]] = {
    "rounding_allowed": lambda value: significant(value, 2),
    "kendall_p": lambda value: significant(value, 2),
    "rounding_median": lambda value: significant(value, 2),
    "ttft_s": lambda value: fixed(1000 * value, 1),
    **dict.fromkeys(
        ("accuracy", "accuracy_change", "held_out_coverage", "half_width", "precision", "disturbed_steps",
         "core_waits"),
        percent,
    ),
    **dict.fromkeys(("kv_bytes", "baseline_kv_bytes", "kv_bytes_full", "kv_bytes_press", "peak_memory_bytes"), size),
    **dict.fromkeys(
        ("speedup", "speedup_over_reference", "speedup_over_plain", "speedup_over_token", "step_speedup", "ppl_ratio",
         "model_ppl_ratio",
         "ppl_over_reference", "press_speedup", "self_speedup", "predicted_press_speedup", "predicted_self_speedup",
         "draft_cost", "verification_cost", "acceptance", "whole_over_parts"),
        lambda value: fixed(value, 3),
    ),
    **dict.fromkeys(
        ("lossless_compared", "lossless_equal", "lossless_explained", "lossless_unexplained", "tokens", "rounding_rows",
         "head_tokens", "held_out_tokens", "layers", "feature_layers", "sequence", "batch", "n", "wall_seconds",
         "slots", "slots_full", "slots_press", "brackets", "duelled", "able"),
        integer,
    ),
    "parameters": large,
    "learning_rate": significant,
}  # fmt: skip
FORMATS["baseline_ttft_s"] = FORMATS["ttft_s"]


def number(metric: str, value: float) -> str:
    """The value of a metric as the paper writes it: two decimals unless the metric has a format of its own."""
    return DASH if is_missing(value) else FORMATS.get(metric, fixed)(value)


def _minus(text: str) -> str:
    return MINUS + text[1:] if text.startswith("-") else text
