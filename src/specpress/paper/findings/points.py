"""Points of perplexity curves, cells of regime maps and steps of chains, with their metrics as cells."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from specpress.analysis.formatting import is_missing
from specpress.paper.cells import Cell
from specpress.paper.wording import data_name, data_prose, press_name


@dataclass(frozen=True)
class PressPoint:
    """A press at one ratio on one data set: compressed once, and, where measured, also while decoding."""

    data: str
    model: str
    context: int
    press: str
    ratio: float
    parameters: str | None = None
    variant: str = ""
    once: Mapping[str, Cell] = field(default_factory=dict)
    decoding: Mapping[str, Cell] = field(default_factory=dict)

    def cell(self, metric: str, mode: str = "once") -> Cell:
        """A metric of one way of compressing; a cell without a value where it was not measured."""
        cells = self.decoding if mode == "decoding" else self.once
        return cells.get(metric, Cell("", metric, note="not measured"))

    def among(self, metric: str, looks: int) -> "PressPoint":
        """The point with the interval that a metric, compressed once, has as one of `looks` that were compared."""
        return replace(self, once={**self.once, metric: self.cell(metric).among(looks)})

    @property
    def name(self) -> str:
        """The press as its authors write it, with the parameters that tell it from itself, if it stands there twice."""
        return _named(self.press, self.variant)

    @property
    def removed(self) -> str:
        """The share of the cache removed, as a percentage."""
        return f"{100 * self.ratio:g}%"

    @property
    def place(self) -> str:
        """Data set and context inside a sentence."""
        return f"{data_prose(self.data)} with {self.context} tokens of context"

    @property
    def block(self) -> tuple[str, str, int]:
        """What a table keeps together: data set, model, context."""
        return (self.data, self.model, self.context)


def press_points(summary: pd.DataFrame) -> list[PressPoint]:
    """The points of every perplexity experiment, by data set, context, press and ratio."""
    rows = summary[(summary.kind == "perplexity") & summary.ratio.notna()]
    keys = ["data", "model", "context", "press", "ratio", "experiment"]
    variants, points = _variants(rows), []
    for (data, model, context, press, ratio, _), group in rows.groupby(keys):
        *_, given = press_of(group.iloc[0])
        modes = {
            mode: {row["metric"]: Cell.of(row) for row in group[group["mode"] == mode].to_dict("records")}
            for mode in ("once", "decoding")
        }
        variant = variants[press, given]
        points.append(PressPoint(data, model, int(context), press, ratio, given, variant, **modes))
    return points


def press_labels(rows: pd.DataFrame) -> pd.Series:
    """The press of each row as a `PressPoint` is named; none where a row has none."""
    pressed = rows[rows.press.notna()]
    variants = _variants(pressed)
    labels = {
        place: _named(press, variants[press, given])
        for place, (_, press, given) in zip(pressed.index, map(press_of, pressed.to_dict("records")), strict=True)
    }
    return pd.Series(labels, index=rows.index, dtype=object)


def _named(press: str, variant: str) -> str:
    return press_name(press) + (f" ({variant})" if variant else "")


def _variants(rows: pd.DataFrame) -> dict[tuple[str, str | None], str]:
    """What tells the settings of one press apart, by press and parameters: nothing for a press with one setting."""
    found: dict[str, dict[str | None, dict]] = {}
    for _, press, parameters in map(press_of, rows.to_dict("records")):
        found.setdefault(press, {})[parameters] = json.loads(parameters) if parameters else {}
    told = {}
    for press, settings in found.items():
        keys = sorted({key for given in settings.values() for key in given})
        apart = [key for key in keys if len({repr(given.get(key)) for given in settings.values()}) > 1]
        for parameters, given in settings.items():
            parts = [f"{key.replace('_', ' ')} {_short(given[key])}" for key in apart if key in given]
            told[press, parameters] = (", ".join(parts) or "as it comes") if apart else ""
    return told


def _short(value) -> str:
    return str(value["name"] if isinstance(value, Mapping) else value)


def press_of(row: Mapping) -> tuple[str, str, str | None]:
    """The model, the press and its parameters: what the perplexity of a row, or its price, is of."""
    return row["model"], row["press"], None if is_missing(row["press_parameters"]) else row["press_parameters"]


def block_titles(points: list[PressPoint]) -> dict[tuple, str]:
    """The title of each block of points: its data set, and of model and context what differs between blocks."""
    blocks = sorted({point.block for point in points})
    several = [len({block[i] for block in blocks}) > 1 for i in range(3)]
    return {
        block: data_name(block[0])
        + (f", {block[1]}" if several[1] else "")
        + (f", context {block[2]}" if several[2] else "")
        for block in blocks
    }


@dataclass(frozen=True)
class RegimeCell:
    """One cell of a regime map."""

    experiment: str
    press: str
    ratio: float
    batch: int
    context: int
    cells: Mapping[str, Cell]

    def __getitem__(self, metric: str) -> Cell:
        return self.cells.get(metric, Cell(self.experiment, metric, note="not measured"))

    def among(self, metric: str, looks: int) -> "RegimeCell":
        """The cell of the map with the interval that a metric has as one of `looks` that were compared."""
        return replace(self, cells={**self.cells, metric: self[metric].among(looks)})


def regime_cells(summary: pd.DataFrame) -> list[RegimeCell]:
    """The cells of every regime map that were measured: maps in the order of the study, cells by batch and context."""
    rows = summary[(summary.kind == "regime") & summary.batch.notna()]
    found = []
    for experiment, of_map in rows.groupby("experiment", sort=False):
        for (batch, context), group in of_map.groupby(["batch", "context"]):
            first = group.iloc[0]
            cells = {row["metric"]: Cell.of(row) for row in group.to_dict("records")}
            found.append(RegimeCell(experiment, first.press, first.ratio, int(batch), int(context), cells))
    return [cell for cell in found if cell["press_speedup"].defined]


@dataclass(frozen=True)
class Step:
    """One step of a chain; the anchor is no link of it."""

    name: str
    title: str
    cells: Mapping[str, Cell]

    def __getitem__(self, metric: str) -> Cell:
        return self.cells.get(metric, Cell("", metric, note="not measured"))

    def among(self, metric: str, looks: int) -> "Step":
        """The step with the interval that a metric has as one of `looks` that were compared."""
        return replace(self, cells={**self.cells, metric: self[metric].among(looks)})

    @property
    def is_anchor(self) -> bool:
        """Whether the others are set against it: only the anchor and the first link have no factor of their own."""
        return "factor" not in self.cells and "factor_total" in self.cells


def chains_of(summary: pd.DataFrame) -> dict[str, list[Step]]:
    """The steps of each chain in order, the links before the anchor; chains in the order of the study."""
    rows = summary[(summary.kind == "chain") & summary.step.notna()]
    chains = {
        name: [_step(of_step) for _, of_step in of_chain.groupby("step_number")]
        for name, of_chain in rows.groupby("experiment", sort=False)
    }
    return {name: sorted(steps, key=lambda step: step.is_anchor) for name, steps in chains.items()}


def _step(rows: pd.DataFrame) -> Step:
    first = rows.iloc[0]
    return Step(first.step, first.step_title, {row["metric"]: Cell.of(row) for row in rows.to_dict("records")})


def links_of(steps: list[Step]) -> list[Step]:
    """The links of a chain: its steps without the anchor."""
    return [step for step in steps if not step.is_anchor]


def by_factor(steps: list[Step]) -> list[Step]:
    """The links of a chain that have a factor, from the smallest to the largest, each as one of so many."""
    links = sorted((step for step in links_of(steps) if step["factor"].defined), key=lambda step: step["factor"].value)
    return [step.among("factor", len(links)) for step in links]
