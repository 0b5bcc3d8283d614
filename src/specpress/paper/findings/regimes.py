"""What the text may ask about maps over batch and context."""

from functools import cached_property

import pandas as pd

from specpress.paper.decisions import side_counts
from specpress.paper.findings.points import RegimeCell, regime_cells


class RegimeResults:
    """The part of `Results` that maps over batch and context make."""

    summary: pd.DataFrame

    @cached_property
    def regime(self) -> list[RegimeCell]:
        """The measured cells of the regime map."""
        return regime_cells(self.summary)

    def best_cell(self, metric: str) -> RegimeCell | None:
        """The cell with the largest value of a metric, as one of all those measured."""
        found = [cell for cell in self.regime if cell[metric].defined]
        best = max(found, key=lambda cell: cell[metric].value, default=None)
        return best and best.among(metric, len(found))

    def regime_sides(self, metric: str) -> dict[str, int]:
        """How many cells of the map lie entirely above one, below it, or neither, by a metric."""
        return side_counts(cell[metric].side() for cell in self.regime if cell[metric].defined)

    def prediction_errors(self, measured: str, within: float = 0.2) -> dict[str, float] | None:
        """How the roofline fares on one metric: cells (`all`), those `near`, within a share, largest and mean error.

        Errors are predicted over measured, less one; None where no cell has both.
        """
        pairs = [(cell[f"predicted_{measured}"], cell[measured]) for cell in self.regime]
        errors = [p.value / m.value - 1 for p, m in pairs if p.defined and m.defined]
        if not errors:
            return None
        return {
            "all": len(errors), "within": within, "near": sum(abs(error) <= within for error in errors),
            "largest": max(map(abs, errors)), "mean": sum(errors) / len(errors),
        }  # fmt: skip
