"""The table of what became of the greedy texts."""

from specpress.paper.findings.blocks import Speed
from specpress.paper.table import Block, Column, Entry, Grid, Row, Table, row
from specpress.paper.wording import drafter_name

PARTS = {"compared": "compared", "equal": "equal", "explained": "explained", "unexplained": "unexplained"}


def lossless(results) -> Table:
    """One row a drafter and way of decoding, with the counts over its settings."""
    groups: dict[tuple, list[Speed]] = {}
    for block in results.blocks:
        for speed in block.speeds:
            if speed in results.compared:
                groups.setdefault((block.title, drafter_name(speed.row)), []).append(speed)
    none = Entry("No run of this study is compared token by token.", span=2 + len(PARTS), align="left")
    rows = [_row(title, drafter, speeds) for (title, drafter), speeds in groups.items()] or [row(none)]
    columns = [Column("left"), Column("left"), *[Column()] * len(PARTS)]
    return Table([Grid(columns, [row("Method", "decoding", *PARTS.values())], [Block(rows)])])


def _row(title: str, drafter: str, speeds: list[Speed]) -> Row:
    label = speeds[0].label if len(speeds) == 1 else f"{drafter}, {len(speeds)} settings"
    counts = [sum(int(speed[f"lossless_{part}"].value or 0) for speed in speeds) for part in PARTS]
    return row(label, title, *map(str, counts))
