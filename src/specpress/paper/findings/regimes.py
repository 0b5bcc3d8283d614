"""What the text may ask about maps over batch and context."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from specpress.paper.decisions import side_counts
from specpress.paper.findings.points import RegimeCell, regime_cells


@dataclass(frozen=True)
class RegimeMap:
    """The measured cells of one experiment, of one press at one ratio."""

    experiment: str
    cells: Sequence[RegimeCell]

    @property
    def press(self) -> str:
        """The press as the configuration names it."""
        return self.cells[0].press

    @property
    def ratio(self) -> float:
        """The share of the cache that it has removed."""
        return self.cells[0].ratio

    def best(self, metric: str) -> RegimeCell | None:
        """The cell with the largest value of a metric, as one of all those of the map."""
        return _best(self.cells, metric)

    def sides(self, metric: str) -> dict[str, int]:
        """How many cells lie entirely above one, below it, or neither, by a metric."""
        return side_counts(cell[metric].side() for cell in self.cells if cell[metric].defined)

    def prediction_errors(self, measured: str, within: float = 0.2) -> dict[str, float] | None:
        """How the roofline fares on one metric: cells (`all`), those `near`, within a share, largest and mean error.

        Errors are predicted over measured, less one; None where no cell has both.
        """
        pairs = [(cell[f"predicted_{measured}"], cell[measured]) for cell in self.cells]
        errors = [p.value / m.value - 1 for p, m in pairs if p.defined and m.defined]
        if not errors:
            return None
        return {
            "all": len(errors), "within": within, "near": sum(abs(error) <= within for error in errors),
            "largest": max(map(abs, errors)), "mean": sum(errors) / len(errors),
        }  # fmt: skip


class RegimeResults:
    """The part of `Results` that maps over batch and context make."""

    summary: pd.DataFrame

    @cached_property
    def regime(self) -> list[RegimeCell]:
        """The measured cells of all maps."""
        return regime_cells(self.summary)

    @cached_property
    def maps(self) -> list[RegimeMap]:
        """Every map in the order of the study, of which the figures draw the first."""
        cells: dict[str, list[RegimeCell]] = {}
        for cell in self.regime:
            cells.setdefault(cell.experiment, []).append(cell)
        return [RegimeMap(experiment, found) for experiment, found in cells.items()]

    def best_cell(self, metric: str) -> RegimeCell | None:
        """The cell of any map with the largest value of a metric, as one of all those measured."""
        return _best(self.regime, metric)


def _best(cells: Sequence[RegimeCell], metric: str) -> RegimeCell | None:
    found = [cell for cell in cells if cell[metric].defined]
    best = max(found, key=lambda cell: cell[metric].value, default=None)
    return best and best.among(metric, len(found))
