"""The tables of presses: throughput, bytes and perplexity, by text and share removed."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, log

from markupsafe import Markup, escape

from specpress.analysis.formatting import DASH, fixed, percent, unit_of_sizes
from specpress.paper.cells import Notes, beside, short_interval
from specpress.paper.decisions import ABOVE, BELOW
from specpress.paper.findings.points import PressPoint, block_titles
from specpress.paper.table import UNMEASURED, Block, Column, Entry, Grid, Row, Table, row

PAGE = 18  # columns beside that of the presses that fit on a page: an interval counts as two


@dataclass(frozen=True)
class Text:
    """What was measured on one text, by press and ratio: a group of columns."""

    title: str
    points: dict[tuple[str, float], PressPoint]

    @property
    def timed(self) -> bool:
        """Whether a step on the compressed cache was timed."""
        return any(point.cell("step_speedup").defined for point in self.points.values())

    @property
    def modes(self) -> list[str]:
        """The ways of compressing in which perplexity was measured."""
        return ["once", "decoding"] if any(point.decoding for point in self.points.values()) else ["once"]

    @property
    def columns(self) -> int:
        """How many columns it has."""
        return self.timed + 2 * len(self.modes)

    def size(self, ratio: float) -> str:
        """Bytes of the cache at one ratio: one value where the presses agree, else the range."""
        cells = [point.cell("kv_bytes") for (_, at), point in self.points.items() if at == ratio]
        cells = sorted((cell for cell in cells if cell.defined), key=lambda cell: cell.value)
        texts = list(dict.fromkeys(cell.text for cell in cells))
        return " to ".join(dict.fromkeys([texts[0], texts[-1]])) if texts else DASH


def presses(results) -> Table:
    """One row a press, one group of columns a text: throughput gain and relative perplexity, once and while decoding.

    A block holds one main ratio (the two lowest where none was measured) and begins with the bytes of the caches. Rows
    are in one order everywhere: by the mean perplexity ratio at the highest main ratio.
    """
    measured = sorted({point.ratio for point in results.points if point.ratio})
    ratios = [ratio for ratio in results.original["table_ratios"] if ratio in measured] or measured[:2]
    order = _order(results.points, ratios[-1]) if ratios else []
    texts = [
        Text(title, {(p.name, p.ratio): p for p in results.points if p.block == block})
        for block, title in block_titles(results.points).items()
    ]
    grids = [_grid(part, ratios, order) for part in _side_by_side(texts)]
    grids = [grid for grid in grids if grid.blocks] or [Grid([Column("left")], [], [UNMEASURED])]
    return Table([*grids, _reported(results.original)])


def _side_by_side(texts: list[Text]) -> list[list[Text]]:
    """Texts in parts that are no wider than a page."""
    parts, room = [], 0
    for text in texts:
        wide = text.timed + 3 * len(text.modes)
        if room < wide:
            parts.append([])
            room = PAGE
        parts[-1].append(text)
        room -= wide
    return parts


def _grid(texts: list[Text], ratios: list[float], order: list[str]) -> Grid:
    columns, titles, head = [Column("left")], [Entry()], [Entry("Press")]
    for text in texts:
        first = [Column()] * text.timed + [Column(), Column("left", gap="\u2009", small=True)] * len(text.modes)
        columns += [Column(gap="9pt"), *first[1:]]
        titles.append(Entry(Markup("<em>{}</em>").format(text.title), span=text.columns, align="center", rule="lr"))
        head += [Entry("gain")] * text.timed
        head += [Entry(f"PPL, {mode}", span=2, align="center") for mode in text.modes]
    return Grid(columns, [Row(titles), Row(head)], [b for ratio in ratios for b in _blocks(texts, ratio, order)])


def _blocks(texts: list[Text], ratio: float, order: list[str]) -> list[Block]:
    """The presses measured at one ratio, below the bytes of the caches; none if there is no press."""
    sizes = [
        Entry(f"KV cache {text.size(0)} → {text.size(ratio)}", span=text.columns, align="center") for text in texts
    ]
    rows = [
        row(press, *(entry for text in texts for entry in _entries(text, text.points.get((press, ratio)))))
        for press in order
        if any((press, ratio) in text.points for text in texts)
    ]
    return [Block([row(f"{percent(ratio)} removed", *sizes), *rows])] if rows else []


def _entries(text: Text, point: PressPoint | None) -> list[str]:
    """The entries of a press on one text: gain, starred if its interval excludes one, and relative perplexities."""
    if point is None:
        return [""] * text.columns
    gain = point.cell("step_speedup")
    star = beside("*") if gain.side() in (ABOVE, BELOW) else ""
    entries = [escape(fixed(gain.value)) + star] * text.timed
    for cell in (point.cell("ppl_ratio", mode) for mode in text.modes):
        entries += [fixed(cell.value), short_interval(cell)]
    return entries


def _order(points: list[PressPoint], ratio: float) -> list[str]:
    """Presses from the lowest geometric mean perplexity ratio to the highest; those without one last."""
    logs: dict[str, list[float]] = {}
    for point in points:
        cell = point.cell("ppl_ratio")
        found = logs.setdefault(point.name, [])
        if point.ratio == ratio and cell.defined:
            found.append(log(cell.value))
    return sorted(logs, key=lambda press: exp(sum(logs[press]) / len(logs[press])) if logs[press] else float("inf"))


def _reported(original) -> Grid:
    """What the original study reported, one group of columns a text."""
    texts = list(dict.fromkeys(given["data"] for given in original["perplexity"]))
    found = {(given["press"], given["data"]): given for given in original["perplexity"]}
    emphasis = Markup("<em>{}</em>")
    titles = [Entry(emphasis.format(text), span=3, align="center") for text in texts]
    rows = []
    for press in dict.fromkeys(given["press"] for given in original["perplexity"]):
        rows.append([press])
        for given in (found.get((press, text)) for text in texts):
            rows[-1] += [fixed(given[key]) if given else "" for key in ("tokens_per_s", "gain", "ppl")]
    head = [
        row(emphasis.format("Reported by the original study, not measured here:"), *titles),
        row(f"Pythia-2.8B, {percent(original['main_ratio'])} removed", *["tok/s", "gain", "PPL"] * len(texts)),
    ]
    return Grid([Column("left"), *[Column()] * 3 * len(texts)], head, [Block([row(*each) for each in rows])])


def all_presses(results) -> Table:
    """Every point, for the report: a block a text, with the full cache once."""
    notes, decoding = Notes(), any(point.decoding for point in results.points)
    unit, scale = unit_of_sizes(point.cell("kv_bytes").value for point in results.points)
    interval = Column("left", gap="\u2009")
    columns = [Column("left"), Column(), Column(), Column(), interval, Column(), Column()]
    columns += [Column(), interval] * (1 + decoding)
    head = row(
        "Press", "removed", f"KV, {unit}", _over_two("gain"), "acceptance", "PPL", _over_two("relative, once"),
        *[_over_two("relative, decoding")] * decoding,
    )  # fmt: skip
    blocks = [
        Block([_point_row(point, notes, scale, decoding) for point in _once_full(results.points, block)], title)
        for block, title in block_titles(results.points).items()
    ]
    return Table([Grid(columns, [head], blocks)], notes.lines())


def _over_two(title: str) -> Entry:
    return Entry(title, span=2, align="center")


def _once_full(points: Iterable[PressPoint], block: tuple) -> list[PressPoint]:
    """The points of a block: first the full cache, without its measurements beside other presses, which are equal."""
    points = [point for point in points if point.block == block]
    full = {point.cell("ppl").value: point for point in reversed(points) if point.ratio == 0}
    return [*reversed(full.values()), *(point for point in points if point.ratio)]


def _point_row(point: PressPoint, notes: Notes, scale: int, decoding: bool) -> Row:
    kv, gain, accepted = (point.cell(metric) for metric in ("kv_bytes", "step_speedup", "acceptance"))
    once, later = point.cell("ppl_ratio"), point.cell("ppl_ratio", "decoding")
    size = fixed(kv.value / scale) if kv.defined else DASH
    ppl = notes.show(point.cell("ppl"), with_interval=True)
    if point.ratio == 0:
        return row("Full cache", point.removed, size, "", "", "", ppl, *[""] * (2 + 2 * decoding))
    return row(
        point.name, point.removed, size, fixed(gain.value), short_interval(gain), fixed(accepted.value), ppl,
        notes.show(once, fixed(once.value)), short_interval(once),
        *[fixed(later.value), short_interval(later)] * decoding,
    )  # fmt: skip
