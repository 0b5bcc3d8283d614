"""Speed experiments, grouped into blocks that share target, prompts and a way of sampling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from markupsafe import Markup

from specpress.analysis.factors import prompt_lengths
from specpress.analysis.formatting import is_missing
from specpress.analysis.kinds import KINDS, LOSSLESS, kind_of
from specpress.paper.cells import Cell
from specpress.paper.decisions import ABOVE, BELOW, UNDECIDED, UNDEFINED, speed_phrase
from specpress.paper.prose import listed, named
from specpress.paper.wording import (
    data_name,
    data_prose,
    is_only_sampling,
    is_sampling,
    method_name,
    sampling_name,
    sampling_prose,
)
from specpress.theory import intervals

GROUPS = ("data", "baseline", "sampling", "prompt_limit", "batch")


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
    """The speed experiments that share target, data, prompts, batch and a way of sampling.

    prompt_tokens : of a prompt; of questions the mean over the experiments
    """

    sampling: str
    data: str
    title: str
    prose: str
    speeds: list[Speed]
    prompt_tokens: float

    def of_kind(self, *kinds: str) -> list[Speed]:
        """The experiments of these kinds that have a speed-up."""
        return [speed for speed in self.speeds if speed.kind in kinds and speed["speedup"].defined]

    @property
    def best(self) -> Speed | None:
        """The constant gamma whose gain is best established."""
        return picked(self.of_kind("constant"))

    @property
    def best_path(self) -> Speed | None:
        """The lossless method whose drafts are paths and whose gain is best established."""
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


def picked(speeds: Sequence[Speed], looks: int | None = None) -> Speed | None:
    """The experiment whose gain is `best_established`, with its interval as one of all of them.

    looks : how many were compared, where these are a part of them
    """
    looks = looks or len(speeds)
    best = best_established([speed["speedup"] for speed in speeds], looks)
    return None if best is None else speeds[best].among(looks)


def best_established(gains: Sequence[Cell], looks: int | None = None) -> int | None:
    """Which of these gains is best established, as some of all that were compared.

    looks : how many were, where these are a part of them
    """
    return intervals.best_established([(gain.among(looks or len(gains)).low, gain.value) for gain in gains])


def told_apart(speeds: Sequence[Speed]) -> Markup:
    """Which of these are faster or slower than the cached baseline, by name, and how many of the others are neither.

    As the main clause of a sentence; the intervals are those of so many that were looked at.
    """
    adjusted = [speed.among(len(speeds)) for speed in speeds]
    sides = [speed["speedup"].side() for speed in adjusted]
    if len(speeds) == 1:
        (only,) = adjusted
        return Markup("{} {}: {}").format(named(only.label), speed_phrase(only["speedup"]), only["speedup"].cited)
    parts = []
    for side, what in ((ABOVE, "faster"), (BELOW, "slower")):
        found = [speed for speed, its in zip(adjusted, sides, strict=True) if its == side]
        names = listed(Markup("{}, {}").format(named(speed.label), speed["speedup"].cited) for speed in found)
        parts += [names + f" {'is' if len(found) == 1 else 'are'} {what} than the cached baseline"] if found else []
    counted_others = ((UNDECIDED, "not distinguishable from it"), (UNDEFINED, "without an interval"))
    for side, what in counted_others:
        count = sides.count(side)
        said = what if parts else what.replace("from it", "from the cached baseline")
        parts += [f"{count} of the {len(speeds)} methods {'is' if count == 1 else 'are'} {said}"] if count else []
    return listed(parts)


def usual_baseline(rows: pd.DataFrame) -> str | None:
    """The baseline of most speed experiments, which prose need not name."""
    experiments = rows[rows.kind == "speed"].drop_duplicates("experiment")
    return None if experiments.empty else experiments.baseline.mode().iloc[0]


def blocks_of(summary: pd.DataFrame) -> list[Block]:
    """Every block of a summary, titled by what differs between blocks."""
    rows = summary[summary.kind == "speed"]
    usual = usual_baseline(rows)
    rows = rows.assign(prompt_limit=prompt_lengths(rows))
    varied = {key for key in GROUPS if rows[key].nunique(dropna=False) > 1}
    varied |= {"prompt_limit"} if rows.prompt_tokens.nunique() > 1 else set()
    only = is_only_sampling(rows.drop_duplicates("sampling").to_dict("records"))
    blocks = []
    keys = [rows.batch.fillna(1) if key == "batch" else rows[key] for key in GROUPS]  # single sequences come first
    for _, group in rows.groupby(keys, dropna=False, sort=True):
        first = group.iloc[0]
        length = round(group.drop_duplicates("experiment").prompt_tokens.mean())
        title = ", ".join([sampling_name(first), *_what_varies(first, varied, length)])
        prose = "when sampling" if only and is_sampling(first) else sampling_prose(first)
        if "data" in varied:
            prose += f" on {data_prose(first.data)}"
        if "prompt_limit" in varied:
            average = "" if is_missing(first.categories) else " on average"
            prose += f" for prompts of {length} tokens{average}"
        if "batch" in varied and not is_missing(first.batch):
            prose += f" at batch {first.batch:g}"
        prose += f" with {first.baseline} as the baseline" if first.baseline != usual else ""
        blocks.append(Block(first.sampling, first.data, title, prose, speeds_of(group), length))
    return blocks


def _what_varies(first: pd.Series, varied: set[str], length: int) -> list[str]:
    """What a block's title adds to its sampling; `length` of its prompts."""
    titles = {"data": data_name(first.data), "baseline": f"baseline {first.baseline}"}
    titles["prompt_limit"] = f"{length}-token prompts"
    if not is_missing(first.batch):
        titles["batch"] = f"batch {first.batch:g}"
    return [titles[key] for key in ("data", "prompt_limit", "batch", "baseline") if key in varied and key in titles]


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
