"""A table as data: what stands in it, and not how LaTeX or HTML sets it (templates/table.tex.j2, table.html.j2).

Every text is plain text or `markupsafe.Markup`; a line break in a heading is for LaTeX, whose columns are narrow, and a
soft hyphen before it belongs to a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """How the entries of a column are set.

    Parameters
    ----------
    align : "left", "right" or "center"
    width : in cm, of a column whose text is wrapped; None for one as wide as its entries
    gap : what lies between it and the column before: a length in pt, or a space; None for the usual
    small : whether it is set smaller, as intervals are
    """

    align: str = "right"
    width: float | None = None
    gap: str | None = None
    small: bool = False


@dataclass(frozen=True)
class Entry:
    """What stands in a row over `span` columns.

    `align` as in `Column`, which it overrides; `rule` is drawn under it and shortened at the sides named, "l" and "r".
    """

    text: str = ""
    span: int = 1
    align: str | None = None
    rule: str = ""

    @property
    def lines(self) -> list[str]:
        """The lines of a heading, with a hyphen where a word is broken."""
        return [line[:-1] + "-" if line.endswith("\u00ad") else line for line in self.text.split("\n")]

    @property
    def whole(self) -> str:
        """The text on one line."""
        return self.text.replace("\u00ad\n", "").replace("\n", " ")


@dataclass(frozen=True)
class Row:
    """Entries from left to right; `apart`: with a little space above."""

    entries: Sequence[Entry]
    apart: bool = False


@dataclass(frozen=True)
class Block:
    """Rows below a rule, and their title."""

    rows: Sequence[Row]
    title: str = ""


UNMEASURED = Block([], "Not measured in this study")


@dataclass(frozen=True)
class Grid:
    """Columns, the rows of headings, and blocks of rows."""

    columns: Sequence[Column]
    head: Sequence[Row]
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Table:
    """Grids one below the other, and the lettered notes under them: (letters, text)."""

    grids: Sequence[Grid]
    notes: Sequence[tuple[str, str]] = ()


def row(*entries: str | Entry, apart: bool = False) -> Row:
    """A row of entries, of which most are a text in one column."""
    return Row([entry if isinstance(entry, Entry) else Entry(entry) for entry in entries], apart)
