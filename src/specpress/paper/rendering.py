"""LaTeX from templates: everything from data is escaped, no number reaches the page unformatted, a gap is a dash.

Jinja2's delimiters become ((* *)) for statements, ((( ))) for values and ((= =)) for comments, which LaTeX leaves
alone.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import jinja2
import pandas as pd

DASH = "---"
BYTE_UNITS = ("bytes", "KiB", "MiB", "GiB")
SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "γ": r"$\gamma$", "×": r"$\times$", "÷": r"$\div$", "±": r"$\pm$",
    "–": "--", "—": "---", "…": r"\ldots{}", "’": "'", "®": r"\textregistered{}", "™": r"\texttrademark{}",
}  # fmt: skip


class Tex(str):
    """Text that is LaTeX already and is not escaped again."""

    __slots__ = ()


def escape(text: object) -> Tex:
    """Any value as LaTeX text.

    Characters with a meaning are escaped, the few symbols this project uses are spelled out, accented Latin letters
    pass, and everything else becomes a question mark: a document that builds beats a glyph.
    """
    if isinstance(text, Tex):
        return text
    return Tex("".join(SPECIAL.get(char) or (char if _printable(char) else "?") for char in str(text)))


def fixed(value: float, decimals: int = 2) -> Tex:
    """A number with a fixed number of decimals; one that is not defined is a dash."""
    return Tex(DASH) if is_missing(value) else Tex(_minus(f"{value:.{decimals}f}"))


def significant(value: float, digits: int = 3) -> Tex:
    """A number with `digits` significant digits, never in exponential notation.

    >>> [significant(x) for x in (0.012345, 3.14159, 41.27, 1234.5)]
    ['0.0123', '3.14', '41.3', '1235']
    """
    if is_missing(value):
        return Tex(DASH)
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    rounded = round(value, digits - 1 - magnitude)
    magnitude = math.floor(math.log10(abs(rounded))) if rounded else 0  # 9.996 has one more digit than it seems
    return Tex(_minus(f"{value:.{max(0, digits - 1 - magnitude)}f}"))


def integer(value: float) -> Tex:
    """A whole number with thin spaces between groups of three digits, from five digits on."""
    if is_missing(value):
        return Tex(DASH)
    text = f"{round(value):,}" if abs(value) >= 10_000 else f"{round(value)}"
    return Tex(_minus(text.replace(",", r"\,")))


def large(value: float) -> Tex:
    """A whole number, in millions or billions from a million on, with three significant digits.

    >>> [large(n) for n in (4096, 134_515_008, 2_775_208_960)]
    ['4096', '135~million', '2.78~billion']
    """
    if is_missing(value):
        return Tex(DASH)
    for scale, name in ((10**9, "billion"), (10**6, "million")):
        if abs(value) >= scale:
            return Tex(f"{significant(value / scale)}~{name}")
    return integer(value)


def percent(value: float, decimals: int = 0) -> Tex:
    """A share as a percentage."""
    return Tex(DASH) if is_missing(value) else Tex(_minus(f"{100 * value:.{decimals}f}") + r"\%")


def size(value: float) -> Tex:
    """Bytes in the largest binary unit of which there is at least one, three significant digits."""
    if is_missing(value):
        return Tex(DASH)
    power = max((p for p in range(4) if abs(value) >= 1024**p), default=0)
    return Tex(f"{significant(value / 1024**power)}~{BYTE_UNITS[power]}")


def unit_of_sizes(values: Iterable[float]) -> tuple[str, int]:
    """The one unit for a column of byte counts, so that the largest has at least one of it: (name, bytes)."""
    largest = max((abs(value) for value in values if not is_missing(value)), default=0)
    power = max((p for p in range(4) if largest >= 1024**p), default=0)
    return BYTE_UNITS[power], 1024**power


def is_missing(value: object) -> bool:
    """Whether there is no value: None, NaN, or a template's undefined."""
    return value is None or isinstance(value, jinja2.Undefined) or bool(pd.isna(value))


# How a metric is written, in the tables and in the text alike; a time to first token is written in ms.
FORMATS: Mapping[str, Callable[[float], Tex]] = {
    "ttft_s": lambda value: fixed(1000 * value, 1),
    "held_out_coverage": percent,
    **dict.fromkeys(("kv_bytes", "baseline_kv_bytes", "kv_bytes_full", "kv_bytes_press", "peak_memory_bytes"), size),
    **dict.fromkeys(
        ("speedup", "speedup_over_reference", "speedup_over_plain", "speedup_over_token", "step_speedup", "ppl_ratio",
         "ppl_over_reference", "press_speedup", "self_speedup", "predicted_press_speedup", "predicted_self_speedup",
         "draft_cost", "verification_cost", "acceptance"),
        lambda value: fixed(value, 3),
    ),
    **dict.fromkeys(
        ("lossless_compared", "lossless_equal", "lossless_near_ties", "lossless_different", "tokens",
         "head_tokens", "held_out_tokens", "layers", "sequence", "batch", "n", "wall_seconds", "slots",
         "slots_full", "slots_press"),
        integer,
    ),
    "parameters": large,
    "learning_rate": significant,
}  # fmt: skip
FORMATS["baseline_ttft_s"] = FORMATS["ttft_s"]


def number(metric: str, value: float) -> Tex:
    """The value of a metric as the paper writes it: two decimals unless the metric has a format of its own."""
    return Tex(DASH) if is_missing(value) else FORMATS.get(metric, fixed)(value)


def template_environment(folder: str | Path) -> jinja2.Environment:
    """A Jinja2 environment for LaTeX: its delimiters, its escaping, and the number formats as filters.

    A value of a template is escaped unless it is `Tex`; a float that no filter has formatted is an error, and so is a
    name that is not defined.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        block_start_string="((*",
        block_end_string="*))",
        variable_start_string="(((",
        variable_end_string=")))",
        comment_start_string="((=",
        comment_end_string="=))",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
    )
    environment.filters |= {
        "fixed": fixed, "significant": significant, "integer": integer, "percent": percent, "large": large,
        "size": size, "side": lambda cell: cell.side(),
    }  # fmt: skip
    return environment


def render(template: str | Path, **context: object) -> str:
    """Render a template file.

    Raises
    ------
    jinja2.UndefinedError
        If the template uses a name that the context lacks.
    TypeError
        If a value is a float without a format.
    """
    template = Path(template)
    return template_environment(template.parent).get_template(template.name).render(**context)


def _finalize(value: object) -> str:
    if isinstance(value, jinja2.Undefined):
        return value
    if isinstance(value, float):
        raise TypeError(f"{value!r} reaches the page unformatted: use a number filter such as fixed or significant")
    if value is None:
        return Tex(DASH)
    return escape(value)


def _minus(text: str) -> str:
    return "$-$" + text[1:] if text.startswith("-") else text


def _printable(char: str) -> bool:
    return " " <= char <= "~" or ("\u00c0" <= char <= "\u017f" and char not in "×÷ŉſ")
