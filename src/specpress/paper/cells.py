"""Rows of the summary as something to print, and the notes under a table."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from specpress.analysis.formatting import DASH, fixed, is_missing, number
from specpress.paper.decisions import side
from specpress.theory.intervals import Estimate, among

SHARES = ("acceptance",)  # metrics that are at most one, which an interval on a logarithmic scale does not know
COUNTED = re.compile(r"(?:(\d+ of \d+) )?(.*)", re.DOTALL)  # a note, and how many units it is about


@dataclass(frozen=True)
class Cell:
    """One row of the summary as something to print."""

    experiment: str
    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    note: str = ""
    file: str = ""
    field: str = ""
    suffix: str = ""
    reference: str = ""
    machine_share: float | None = None
    log_error: float | None = None
    error: float | None = None
    freedom: float | None = None
    skew: float | None = None
    looks: int = 1

    @classmethod
    def of(cls, row: Mapping) -> "Cell":
        """The cell of a row of the summary."""
        values = {key: None if is_missing(row[key]) else row[key] for key in ("low", "high", "n")}
        values["n"] = None if values["n"] is None else int(values["n"])  # a CSV with a gap has floats
        texts = {key: "" if is_missing(row[key]) else str(row[key]) for key in ("note", "file", "field", "reference")}
        value = None if is_missing(row["estimate"]) else float(row["estimate"])
        spread = {key: row.get(key) for key in ("machine_share", "log_error", "error", "freedom", "skew")}
        spread = {key: None if is_missing(found) else float(found) for key, found in spread.items()}
        return cls(row["experiment"], row["metric"], value, **values, **texts, **spread, suffix=_setting(row)).possible

    def among(self, looks: int) -> "Cell":
        """The cell with its interval as one of `looks` that were compared; none where its error is unknown."""
        if looks == 1:
            return self
        on_log_scale = self.log_error is not None
        error = self.log_error if on_log_scale else self.error
        if error is None:
            return replace(self, low=None, high=None, looks=looks)
        spread = {"se": error, "df": self.freedom, "skew": self.skew, "on_log_scale": on_log_scale}
        found = among(Estimate(self.value, self.low, self.high, self.n or 0, **spread), looks)
        return replace(self, low=found.low, high=found.high, looks=looks).possible

    @property
    def possible(self) -> "Cell":
        """The cell with its interval cut off where no value can be, which takes nothing from its coverage."""
        cut = self.metric in SHARES and self.high is not None and self.high > 1
        return replace(self, high=1.0) if cut else self

    @property
    def defined(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    @property
    def key(self) -> str:
        """The name under which numbers.tex defines the value, without characters that TeX minds."""
        return re.sub(r"[^A-Za-z0-9_.:@+-]", "-", self.experiment + self.suffix)

    @property
    def text(self) -> str:
        """The value, formatted."""
        return number(self.metric, self.value)

    @property
    def interval(self) -> str:
        """The interval, formatted; a dash without one."""
        if self.low is None or self.high is None:
            return DASH
        return f"[{number(self.metric, self.low)}, {number(self.metric, self.high)}]"

    def parts(self) -> dict[str, str]:
        """The formatted numbers of the cell by the name of the part: value, low, high, n."""
        parts = {"": self.value, "/low": self.low, "/high": self.high}
        named = {self.metric + part: number(self.metric, value) for part, value in parts.items() if value is not None}
        return named | ({f"{self.metric}/n": number("n", self.n)} if self.n is not None else {})

    @property
    def macro(self) -> Markup:
        """The value in the text, with the name that numbers.tex gives it; or a dash."""
        return self._named("", self.text) if self.defined else Markup(DASH)

    @property
    def cited(self) -> Markup:
        """The value with its interval, in the text, each with its name in numbers.tex.

        The ends of an adjusted interval have no name there: the summary has what they are made of.
        """
        if self.low is None or self.high is None:
            return self.macro
        if self.looks > 1:
            compared = f"(adjusted for {self.looks} settings)"
            return Markup("{} {} {}").format(self.macro, self.interval, compared)
        ends = {"/low": self.low, "/high": self.high}
        low, high = (self._named(part, number(self.metric, value)) for part, value in ends.items())
        return Markup("{} [{}, {}]").format(self.macro, low, high)

    @property
    def n_macro(self) -> Markup:
        """The number of prompts or passages behind the value, in the text."""
        return self._named("/n", number("n", self.n)) if self.n is not None else Markup(DASH)

    def side(self, of: float = 1.0) -> str:
        """Where the interval lies relative to `of`."""
        return side(self.low, self.high, of)

    def _named(self, part: str, text: str) -> Markup:
        return Markup('<data value="{}/{}{}">{}</data>').format(self.key, self.metric, part, text)


def _setting(row: Mapping) -> str:
    """What tells rows of an experiment apart: ratio, category, task and press, data set, step, batch and context.

    A category is whatever a user's file says: what TeX minds in it stands there as the number of the character.
    """
    if row["kind"] == "perplexity" and not is_missing(row["ratio"]):
        return f"@{row['ratio']:g}" + ("" if is_missing(row["mode"]) or row["mode"] == "once" else f":{row['mode']}")
    if not is_missing(row.get("category")):
        return "@" + re.sub(r"[^A-Za-z0-9_-]", lambda found: f".u{ord(found[0]):x}.", str(row["category"]))
    if row["kind"] == "draft" and not is_missing(row["data"]):
        return f"@{row['data']}"
    if row["kind"] == "chain" and not is_missing(row["step"]):
        return f"@{row['step']}"
    if row["kind"] == "regime" and not is_missing(row["context"]):
        return f"@{row['batch']:g}x{row['context']:g}"
    if row["kind"] == "tasks" and not is_missing(row["task"]):
        parts = [_with_parameters(row, what) for what in ("task", "press") if not is_missing(row[what])]
        parts += [f"{row['ratio']:g}"] if row["ratio"] > 0 else []
        return "@" + ":".join(parts + ([] if is_missing(row["mode"]) else [row["mode"]]))
    return ""


def _with_parameters(row: Mapping, what: str) -> str:
    """A task or press with its parameters, if it has any: `several_needles.needles-8`."""
    given = row[f"{what}_parameters"]
    return ".".join([row[what], *(f"{k}-{v}" for k, v in json.loads("{}" if is_missing(given) else given).items())])


def short_interval(cell: Cell) -> str:
    """An interval with two decimals, for narrow columns; nothing without one."""
    return "" if cell.low is None or cell.high is None else f"[{fixed(cell.low)}, {fixed(cell.high)}]"


def beside(mark: str) -> Markup:
    """A mark beside a number, which takes no room in its column."""
    return Markup("<span>{}</span>").format(mark)


class Notes:
    """Reasons printed under a table, lettered in the order in which they come up."""

    def __init__(self):
        self.texts: list[str] = []

    def mark(self, text: str) -> Markup:
        """The letter of a reason, as a superscript; nothing for no reason."""
        if not text:
            return Markup()
        if text not in self.texts:
            self.texts.append(text)
        return beside(Markup("<sup>{}</sup>").format(_letter(self.texts.index(text))))

    def show(self, cell: Cell, text: str | None = None, *, with_interval: bool = False) -> Markup:
        """The value of a cell (or `text`, made from it), marked with its reason when it has one worth telling."""
        note = "; ".join(part for part in cell.note.split("; ") if with_interval or not part.startswith("percentile"))
        shown = cell.text if text is None or not cell.defined else text
        return escape(shown) + self.mark(note or ("" if cell.defined else "not measured"))

    def lines(self) -> list[tuple[str, str]]:
        """(letters, reason) of every note so far; those that count units without a value share a line by their reason.

        >>> notes = Notes()
        >>> _ = [notes.mark(f"{n} of 8 prompts without a value: too short") for n in (1, 2)]
        >>> notes.lines()
        [('a, b', '1 of 8, 2 of 8 prompts without a value: too short')]
        """
        shared: dict[str, tuple[list[str], list[str]]] = {}
        for index, text in enumerate(self.texts):
            count, reason = COUNTED.fullmatch(text).groups()
            letters, counts = shared.setdefault(reason, ([], []))
            letters.append(_letter(index))
            counts += [count] if count else []
        return [
            (", ".join(letters), f"{', '.join(counts)} {reason}".lstrip())
            for reason, (letters, counts) in shared.items()
        ]


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else str(index)
