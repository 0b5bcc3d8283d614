"""The table of kinds of text: what a method gains on each, and how much of its drafts is accepted there."""

from specpress.paper.cells import Notes, short_interval
from specpress.paper.findings.categories import ByCategory, Category
from specpress.paper.table import UNMEASURED, Block, Column, Entry, Grid, Row, Table, row

POSITIONS = 4  # of a draft that the table has room for; the figure has more


def categories(results) -> Table:
    """Every experiment whose prompts have categories, a block each, and in it a row a category."""
    notes = Notes()
    blocks = [
        Block([_row(category, notes) for category in found.categories], _title(found)) for found in results.by_category
    ]
    columns = [Column("left"), Column(), Column(gap="8pt"), Column("left", gap="5pt", small=True)]
    columns += [Column()] * (2 + POSITIONS)
    over = row("", "", "", "", "", "", Entry("accepted at, if reached", span=POSITIONS, align="center", rule="l"))
    head = row(
        "kind of text", "n", Entry("speed-up (95%)", span=2, align="center"), "acceptance\nlength", "acceptance\nrate",
        *map(str, range(1, POSITIONS + 1)),
    )  # fmt: skip
    return Table([Grid(columns, [over, head], blocks or [UNMEASURED])], notes.lines())


def _title(found: ByCategory) -> str:
    return f"{found.label}, {found.sampling}"


def _row(category: Category, notes: Notes) -> Row:
    speedup = category["speedup"]
    entries = [category.name, "" if speedup.n is None else str(speedup.n)]
    entries += [notes.show(speedup, with_interval=True), short_interval(speedup)]
    entries += [notes.show(category[metric]) for metric in ("acceptance_length", "acceptance_rate")]
    found = [category[f"acceptance_at_{position}"] for position in range(1, POSITIONS + 1)]
    return row(*entries, *(cell.text if cell.defined else "" for cell in found))
