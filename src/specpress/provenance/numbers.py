"""The numbers of a study by the names its paper uses: value, interval, and the place in the metrics they come from."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from specpress.analysis.tables import read_table
from specpress.provenance.archive import ArchiveError, Stored

# The two kinds of line of numbers.tex (paper/templates/numbers.tex.j2).
DEFINED = re.compile(
    r"\\defineresult\{(?P<key>.+?)\}\{(?P<metric>.+?)\}\{(?P<text>.*)\} % (?P<file>.*?) : (?P<field>.*)"
)
UNDEFINED = re.compile(r"% (?P<key>\S+) (?P<metric>\S+) is not defined: (?P<note>.*) \(in (?P<file>.*)\)")


@dataclass(frozen=True)
class Number:
    """One number of the paper.

    Parameters
    ----------
    name : str
        As in numbers.tex, such as `speculative-gamma4-greedy/speedup`.
    row : Mapping
        Its row of summary.csv; what is missing there is left out.
    """

    name: str
    row: Mapping

    @property
    def files(self) -> list[str]:
        """The metrics files it is computed from, relative to the results: its own, and that of its reference."""
        own = re.sub(r"^results/[^/]+/", "", str(self.row["file"]))
        other = f"metrics/{self.row['reference']}.json" if "reference" in self.row else None
        return [own, other] if other and other != own else [own]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the interval; None without one."""
        return (self.row["low"], self.row["high"]) if {"low", "high"} <= self.row.keys() else None


def read_numbers(stored: Stored) -> dict[str, Number]:
    """Every number of the paper by name, in the order of numbers.tex.

    Raises
    ------
    ArchiveError
        If numbers.tex or the summary is missing, or they do not belong together.
    """
    summary = _summary(stored)
    rows = {_place(row): row for row in (_present(row) for row in summary.to_dict("records"))}
    unmeasured = [row for row in rows.values() if "estimate" not in row]
    found: dict[str, Number] = {}
    for line in stored.text("numbers.tex").splitlines():
        if match := DEFINED.fullmatch(line):
            metric, _, _ = match["metric"].partition("/")
            place = (metric, match["file"], match["field"])
            if place not in rows:
                raise ArchiveError(f"{stored.label}: numbers.tex and analysis/summary.csv are of different runs")
            name = f"{match['key']}/{metric}"
            found[name] = Number(name, rows[place])
        elif match := UNDEFINED.fullmatch(line):
            row = next(
                (row for row in unmeasured if (row["metric"], row["file"]) == (match["metric"], match["file"])), None
            )
            if row:
                unmeasured.remove(row)
                found[f"{match['key']}/{match['metric']}"] = Number(f"{match['key']}/{match['metric']}", row)
    return found


def _summary(stored: Stored) -> pd.DataFrame:
    name = "analysis/summary.csv"
    try:
        summary = read_table(io.StringIO(stored.text(name)))
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise stored.damaged(name, f"no table ({str(error).strip()})") from error
    if missing := sorted({"metric", "file", "field", "kind", "estimate"} - set(summary)):
        raise stored.damaged(name, f"without the columns {', '.join(missing)}")
    return summary


def _present(row: Mapping) -> dict:
    return {key: value for key, value in row.items() if not pd.isna(value)}


def _place(row: Mapping) -> tuple:
    return tuple(row.get(key) for key in ("metric", "file", "field"))  # a cut row lacks some
