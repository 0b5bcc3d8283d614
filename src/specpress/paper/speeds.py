"""Speed experiments, grouped into blocks that share target, prompts and a way of sampling."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from specpress.analysis.formatting import is_missing
from specpress.analysis.kinds import KINDS, LOSSLESS, kind_of
from specpress.paper.cells import Cell
from specpress.paper.decisions import ABOVE, BELOW, UNDECIDED, UNDEFINED
from specpress.paper.wording import (
    data_name,
    data_prose,
    is_only_sampling,
    is_sampling,
    method_name,
    sampling_name,
    sampling_prose,
)

GROUPS = ("data", "baseline", "sampling", "prompt_tokens", "batch")


@dataclass(frozen=True)
class Speed:
    """A speed experiment: its name in the paper, its factors, and its metrics as cells."""

    experiment: str
    label: str
    row: Mapping
    cells: Mapping[str, Cell]

    def __getitem__(self, metric: str) -> Cell:
        return self.cells.get(metric, Cell(self.experiment, metric, note="not measured"))

    def among(self, looks: int) -> "Speed":
        """The experiment with the interval that its speed-up has as one of `looks` that were compared."""
        return replace(self, cells={**self.cells, "speedup": self["speedup"].among(looks)})

    @property
    def kind(self) -> str:
        """Which of `KINDS`."""
        return kind_of(self.row)


@dataclass(frozen=True)
class Block:
    """The speed experiments that share target, data, prompts, batch and a way of sampling."""

    sampling: str
    data: str
    title: str
    prose: str
    speeds: list[Speed]

    def of_kind(self, *kinds: str) -> list[Speed]:
        """The experiments of these kinds that have a speed-up."""
        return [speed for speed in self.speeds if speed.kind in kinds and speed["speedup"].defined]

    @property
    def best(self) -> Speed | None:
        """The constant gamma with the highest speed-up."""
        return picked(self.of_kind("constant"))

    @property
    def best_path(self) -> Speed | None:
        """The fastest lossless method whose drafts are paths."""
        return picked(self.of_kind(*(kind for kind in LOSSLESS if kind != "tree")))

    @property
    def best_predicted(self) -> Speed | None:
        """The constant gamma with the highest predicted speed-up."""
        predicted = [speed for speed in self.of_kind("constant") if speed["predicted_speedup"].defined]
        return max(predicted, key=lambda speed: speed["predicted_speedup"].value, default=None)

    def sides(self) -> dict[str, int]:
        """How many constant gammas lie entirely above 1, below it, around it, or have no interval."""
        sides = [speed["speedup"].side() for speed in self.of_kind("constant")]
        return {name: sides.count(name) for name in (ABOVE, BELOW, UNDECIDED, UNDEFINED)}

    def predictions(self) -> dict[str, int]:
        """How many measured intervals lie above their prediction, below it, or hold it (undecided)."""
        pairs = [(s["speedup"], s["predicted_speedup"]) for s in self.of_kind("constant")]
        sides = [measured.side(predicted.value) for measured, predicted in pairs if predicted.defined]
        return {name: sides.count(name) for name in (ABOVE, BELOW, UNDECIDED)}


def picked(speeds: list[Speed]) -> Speed | None:
    """The experiment with the highest speed-up, with the interval that it has as one of so many."""
    found = fastest(speeds)
    return None if found is None else found.among(len(speeds))


def fastest(speeds: list[Speed]) -> Speed | None:
    """The experiment with the highest speed-up."""
    return max(speeds, key=lambda speed: speed["speedup"].value, default=None)


def blocks_of(summary: pd.DataFrame) -> list[Block]:
    """Every block of a summary, titled by what differs between blocks."""
    rows = summary[summary.kind == "speed"]
    varied = {key for key in GROUPS if rows[key].nunique(dropna=False) > 1}
    only = is_only_sampling(rows.drop_duplicates("sampling").to_dict("records"))
    blocks = []
    keys = [rows.batch.fillna(1) if key == "batch" else rows[key] for key in GROUPS]  # single sequences come first
    for _, group in rows.groupby(keys, dropna=False, sort=True):
        first = group.iloc[0]
        title = ", ".join([sampling_name(first), *_what_varies(first, varied)])
        prose = "when sampling" if only and is_sampling(first) else sampling_prose(first)
        if "data" in varied:
            prose += f" on {data_prose(first.data)}"
        if "prompt_tokens" in varied:
            average = "" if is_missing(first.categories) else " on average"
            prose += f" for prompts of {first.prompt_tokens:g} tokens{average}"
        if "batch" in varied and not is_missing(first.batch):
            prose += f" at batch {first.batch:g}"
        prose += f" with {first.baseline} as the baseline" if "baseline" in varied else ""
        blocks.append(Block(first.sampling, first.data, title, prose, speeds_of(group)))
    return blocks


def _what_varies(first: pd.Series, varied: set[str]) -> list[str]:
    """What a block's title adds to its sampling."""
    titles = {"data": data_name(first.data), "baseline": f"baseline {first.baseline}"}
    if not is_missing(first.prompt_tokens):
        titles["prompt_tokens"] = f"{first.prompt_tokens:g}-token prompts"
    if not is_missing(first.batch):
        titles["batch"] = f"batch {first.batch:g}"
    return [titles[key] for key in ("data", "prompt_tokens", "batch", "baseline") if key in varied and key in titles]


def speeds_of(group: pd.DataFrame) -> list[Speed]:
    """The experiments of a block, in the order of `KINDS`, each kind by gamma."""
    speeds = []
    for experiment, rows in group.groupby("experiment", sort=False):
        records = rows.to_dict("records")
        cells = {row["metric"]: Cell.of(row) for row in records}
        speeds.append(Speed(experiment, method_name(records[0]), records[0], cells))
    labels = [speed.label for speed in speeds]
    speeds = [
        Speed(s.experiment, f"{s.label} ({s.experiment})", s.row, s.cells) if labels.count(s.label) > 1 else s
        for s in speeds
    ]
    return sorted(speeds, key=lambda s: (KINDS.index(s.kind), 0 if is_missing(s.row["gamma"]) else s.row["gamma"]))
