"""What the text, the table and the figure may ask about categories of prompts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from specpress.analysis.formatting import is_missing
from specpress.analysis.metrics.categories import PREFIX
from specpress.paper.cells import Cell
from specpress.paper.decisions import side_counts
from specpress.paper.wording import method_name, sampling_name


@dataclass(frozen=True)
class Category:
    """A method on one kind of text: its metrics as cells, by their names without the prefix."""

    name: str
    cells: Mapping[str, Cell]

    def __getitem__(self, metric: str) -> Cell:
        return self.cells.get(metric, Cell("", PREFIX + metric, note="not measured"))


@dataclass(frozen=True)
class ByCategory:
    """An experiment whose prompts have categories: its name in the paper, and each kind of text, fastest first."""

    experiment: str
    label: str
    sampling: str
    data: str
    categories: list[Category]

    def sides(self) -> dict[str, int]:
        """How many categories are sped up, slowed down, or neither, by their intervals."""
        return side_counts(category["speedup"].side() for category in self.categories if category["speedup"].defined)

    def ends(self) -> tuple[Category, Category] | None:
        """The fastest and the slowest kind of text, each as one of all; None where fewer than two have a speed-up."""
        known = [category for category in self.categories if category["speedup"].defined]
        if len(known) < 2:
            return None
        first, last = (
            Category(c.name, {**c.cells, "speedup": c["speedup"].among(len(known))}) for c in (known[0], known[-1])
        )
        return first, last


def by_category(summary: pd.DataFrame) -> list[ByCategory]:
    """Every experiment with categories, in the order of the summary."""
    rows = summary[summary.category.notna()]
    found = []
    for experiment, group in rows.groupby("experiment", sort=False):
        categories = [
            Category(name, {row["metric"].removeprefix(PREFIX): Cell.of(row) for row in part.to_dict("records")})
            for name, part in group.groupby("category", sort=False)
        ]
        categories.sort(key=lambda category: -_or_none(category["speedup"].value))
        first = group.iloc[0]
        found.append(ByCategory(experiment, method_name(first), sampling_name(first), first.data, categories))
    return found


def _or_none(value: float | None) -> float:
    return 0.0 if is_missing(value) else value


class CategoryResults:
    """The part of `Results` that prompts with categories make."""

    summary: pd.DataFrame

    @cached_property
    def by_category(self) -> list[ByCategory]:
        """The experiments whose prompts have categories."""
        return by_category(self.summary)
