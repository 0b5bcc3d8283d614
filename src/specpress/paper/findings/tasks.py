"""What the text may ask about tasks: what the full cache can do, what presses break, and whether perplexity tells."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from specpress.analysis.formatting import is_missing
from specpress.analysis.metrics.tasks import ALL
from specpress.paper.cells import Cell
from specpress.paper.decisions import side_counts
from specpress.paper.wording import MODES, press_name, task_name

SIGNIFICANT = 0.05
Setting = tuple[str, str, float, str]  # task title, press, ratio, mode


@dataclass(frozen=True)
class TaskStudy:
    """One experiment on tasks: cells of the full cache by task, of presses by `Setting`, rankings by mode and ratio."""

    experiment: str
    spec: Mapping
    full: Mapping[str, Mapping[str, Cell]] = field(default_factory=dict)
    points: Mapping[Setting, Mapping[str, Cell]] = field(default_factory=dict)
    rankings: Mapping[tuple[str, float | None], Mapping[str, Cell]] = field(default_factory=dict)

    @property
    def able(self) -> list[str]:
        """Titles of the tasks that the full cache can do."""
        return [title for title, cells in self.full.items() if "able" in cells and cells["able"].value]

    @property
    def unable(self) -> list[str]:
        """Titles of the tasks that it cannot do, and that decide nothing."""
        return [title for title, cells in self.full.items() if "able" in cells and not cells["able"].value]

    @property
    def presses(self) -> list[str]:
        """Presses in the order of the study."""
        return list(dict.fromkeys(press for _, press, _, _ in self.points))

    @property
    def ratios(self) -> list[float]:
        """Ratios above 0, ascending."""
        return sorted({ratio for _, _, ratio, _ in self.points})

    @property
    def middle_ratio(self) -> float:
        """The ratio in the middle, of two the lower one."""
        return self.ratios[(len(self.ratios) - 1) // 2]

    @property
    def modes(self) -> list[str]:
        """Modes in the order of the study."""
        return list(dict.fromkeys(mode for *_, mode in self.points))

    @property
    def together(self) -> str:
        """The title of all tasks together that the full cache can do."""
        return task_name({"task": ALL})

    def cell(self, metric: str, *setting) -> Cell:
        """A metric of a press at a ratio in a mode, on a task."""
        return self.points.get(setting, {}).get(metric, Cell(self.experiment, metric, note="not measured"))

    def sides(self, mode: str, ratio: float | None = None) -> dict[str, int]:
        """How many accuracies, of one ratio or of all, lie below the full cache's, above, or neither, task by task."""
        cells = [
            cells["accuracy_change"]
            for (title, _, at, how), cells in self.points.items()
            if title in self.able and how == mode and ratio in (None, at)
        ]
        return side_counts(cell.side(0.0) for cell in cells)

    def ends(self, mode: str, ratio: float) -> tuple[tuple[str, Cell], tuple[str, Cell]]:
        """The presses of the highest and of the lowest accuracy over all tasks, each with its cell."""
        found = [
            (press_name(press), self.cell("accuracy", self.together, press, ratio, mode)) for press in self.presses
        ]
        ordered = sorted(found, key=lambda each: each[1].value)
        return ordered[-1], ordered[0]

    def ranking(self, mode: str) -> "Ranking":
        """Whether perplexity ranks presses as the tasks do, over the means of both over their ratios."""
        cells = self.rankings.get((mode, None), {})
        return Ranking(*(cells.get(name, Cell(self.experiment, name)) for name in ("kendall", "kendall_p", "spearman")))


@dataclass(frozen=True)
class Ranking:
    """Rank correlations of presses by perplexity and by tasks: Kendall's, how likely it is by chance, Spearman's."""

    kendall: Cell
    p: Cell
    spearman: Cell

    @property
    def verdict(self) -> str:
        """What the correlation says: "as", "against" or "open"; "none" without one."""
        if not self.kendall.defined or not self.p.defined:
            return "none"
        if self.p.value >= SIGNIFICANT:
            return "open"
        return "as" if self.kendall.value > 0 else "against"


class TaskResults:
    """The part of `Results` that experiments on tasks make."""

    summary: pd.DataFrame

    @cached_property
    def task_studies(self) -> list[TaskStudy]:
        """Every experiment on tasks."""
        rows = self.summary[(self.summary.kind == "tasks") & self.summary.task.notna()]
        return [_task_study(name, group.to_dict("records")) for name, group in rows.groupby("experiment", sort=False)]


def mode_name(mode: str) -> str:
    """What a mode is called."""
    return MODES.get(mode, mode)


def _task_study(name: str, rows: list[Mapping]) -> TaskStudy:
    study = TaskStudy(name, rows[0], {}, {}, {})
    for row in rows:
        if row["metric"] in ("kendall", "kendall_p", "spearman"):
            place, key = study.rankings, (row["mode"], None if is_missing(row["ratio"]) else row["ratio"])
        elif is_missing(row["press"]):
            place, key = study.full, task_name(row)
        else:
            place, key = study.points, (task_name(row), row["press"], row["ratio"], row["mode"])
        place.setdefault(key, {})[row["metric"]] = Cell.of(row)
    return study
