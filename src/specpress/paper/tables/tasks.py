"""The tables of tasks: accuracy by task, press, share removed, and whether the press sees the question."""

from collections.abc import Iterator

from markupsafe import Markup, escape

from specpress.analysis.formatting import percent, unit_of_sizes
from specpress.paper.cells import Cell, beside
from specpress.paper.decisions import ABOVE, BELOW
from specpress.paper.findings.tasks import TaskStudy, mode_name
from specpress.paper.prose import upper_first
from specpress.paper.table import UNMEASURED, Block, Column, Entry, Grid, Row, Table, row
from specpress.paper.wording import data_name, press_name

SIDE_BY_SIDE = 4  # tasks in a grid that fits on a page


def tasks(results) -> Table:
    """One row a press, one group of columns a task; then the tasks that the full cache fails."""
    studies = results.task_studies
    grids = [grid for study in studies for grid in _grids(study, _where(study) if len(studies) > 1 else "")]
    return Table(grids or [Grid([Column("left")], [], [UNMEASURED])])


def _where(study: TaskStudy) -> str:
    return f"{data_name(study.spec['data'])}, {study.spec['context']:g} tokens"


def _grids(study: TaskStudy, where: str) -> Iterator[Grid]:
    """where : what tells the experiment from the others; nothing of a single one"""
    titles = [*study.able, study.together] if len(study.able) > 1 else study.able
    for start in range(0, len(titles), SIDE_BY_SIDE):
        yield _grid(study, titles[start : start + SIDE_BY_SIDE], where)
    if study.unable:
        columns = [Column("left"), Column(), Column("left", gap="5pt", small=True)]
        fails = "Decides nothing: the full cache fails it" + (f" ({where})" if where and not study.able else "")
        head = row(fails, Entry("accuracy", span=2, align="center"))
        failed = [(title, study.full[title]["accuracy"]) for title in study.unable]
        yield Grid(
            columns, [head], [Block([row(upper_first(title), cell.text, cell.interval) for title, cell in failed])]
        )


def _grid(study: TaskStudy, titles: list[str], where: str) -> Grid:
    span = len(study.ratios)
    columns = [Column("left"), *[Column(gap="9pt"), *[Column()] * (span - 1)] * len(titles)]
    names = [Entry(_emphasis(upper_first(title)), span=span, align="center", rule="lr") for title in titles]
    removed = [percent(ratio, 1 if round(100 * ratio, 1) % 1 else 0) for _ in titles for ratio in study.ratios]
    full = [study.full[title]["accuracy"] for title in titles]
    whole = [Entry(f"{cell.text} {cell.interval}", span=span, align="center") for cell in full]
    blocks = [Block([row("Full cache", *whole)])]
    for mode in study.modes:
        rows = [row(press_name(press), *_entries(study, titles, press, mode)) for press in study.presses]
        blocks.append(Block(rows, upper_first(mode_name(mode))))
    return Grid(columns, [Row([Entry(where), *names]), row("Press, share removed:", *removed)], blocks)


def _entries(study: TaskStudy, titles: list[str], press: str, mode: str) -> Iterator[Markup]:
    for title in titles:
        for ratio in study.ratios:
            cell = study.cell("accuracy", title, press, ratio, mode)
            change = study.cell("accuracy_change", title, press, ratio, mode)
            yield escape(cell.text) + (beside("*") if change.side(0.0) in (ABOVE, BELOW) else "")


def all_tasks(results) -> Table:
    """Every accuracy with its interval, for the report: a block a task."""
    cells = [cells["kv_bytes"] for study in results.task_studies for cells in study.points.values()]
    unit, scale = unit_of_sizes(cell.value for cell in cells)
    interval = Column("left", gap="\u2009")
    columns = [Column("left"), Column("left"), Column(), Column(), Column(), interval, Column(), interval]
    two = {"span": 2, "align": "center"}
    head = row("Press", "question", "removed", f"KV, {unit}", Entry("accuracy", **two), Entry("change", **two))
    blocks = [
        Block(
            [_full_row(study.full[title]["accuracy"]), *_point_rows(study, title, scale)],
            upper_first(title) + (f", {_where(study)}" if len(results.task_studies) > 1 else ""),
        )
        for study in results.task_studies
        for title in study.full
    ]
    return Table([Grid(columns, [head], blocks or [UNMEASURED])])


def _full_row(cell: Cell) -> Row:
    return row("Full cache", "", percent(0), "", cell.text, cell.interval, "", "")


def _point_rows(study: TaskStudy, title: str, scale: int) -> Iterator[Row]:
    for (task, press, ratio, mode), cells in study.points.items():
        if task == title:
            accuracy, change = cells["accuracy"], cells["accuracy_change"]
            size = f"{cells['kv_bytes'].value / scale:.2f}"
            yield row(press_name(press), mode_name(mode), f"{100 * ratio:g}%", size, accuracy.text, accuracy.interval,
                      change.text, change.interval)  # fmt: skip


def _emphasis(text: str) -> Markup:
    return Markup("<em>{}</em>").format(text)
