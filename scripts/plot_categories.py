"""Draw what a method gains on each kind of text, and how its drafts are accepted there, position by position."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from specpress.analysis.metrics.categories import POSITIONS
from specpress.paper.findings.categories import ByCategory, by_category
from specpress.paper.plotting import PALETTE, cut_intervals, empty_sheet, figure_command, panels


def draw(summary: pd.DataFrame) -> Figure:
    """Two panels: speed-up with intervals, a row a category; acceptance by position as a map, of the first method."""
    found = by_category(summary)
    if not found:
        return empty_sheet("This study has no prompts with categories.")
    names = list(dict.fromkeys(category.name for method in found for category in method.categories))[::-1]
    figure, (left, right) = panels(2, figsize=(6.3, 0.9 + 0.19 * len(names)), width_ratios=(3, 2))
    _speedups(left, found, names)
    _positions(right, found[0], names)
    return figure


def _speedups(axis, found: list[ByCategory], names: list[str]) -> None:
    axis.axvline(1, color="black", linewidth=0.8)
    for number, method in enumerate(found):
        known = [c for c in method.categories if c["speedup"].defined]
        places = [names.index(c.name) + 0.2 * (number - (len(found) - 1) / 2) for c in known]
        cells = [c["speedup"] for c in known]
        ends = [
            [cell.value - (cell.value if cell.low is None else cell.low) for cell in cells],
            [(cell.value if cell.high is None else cell.high) - cell.value for cell in cells],
        ]
        axis.errorbar(
            [cell.value for cell in cells], places, xerr=ends, fmt="os^D"[number % 4], linestyle="none",
            color=PALETTE[number % len(PALETTE)], elinewidth=0.8, label=f"{method.label}, {method.sampling}",
        )  # fmt: skip
    widest = max((c["speedup"].value for m in found for c in m.categories if c["speedup"].defined), default=1.0)
    axis.set_xlim(left=0)
    cut_intervals(axis, high=1.6 * widest, along="x")  # of few prompts some intervals go on for ever
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("speed-up")
    axis.grid(axis="x")
    axis.grid(visible=False, axis="y")
    if len(found) > 1:
        axis.figure.legend(loc="outside upper center", ncols=2)


def _positions(axis, method: ByCategory, names: list[str]) -> None:
    shares = np.full((len(names), POSITIONS), np.nan)
    for category in method.categories:
        for position in range(1, POSITIONS + 1):
            cell = category[f"acceptance_at_{position}"]
            if cell.defined:
                shares[names.index(category.name), position - 1] = cell.value
    used = max(1, int((~np.isnan(shares)).any(axis=0).sum()))
    axis.imshow(shares[:, :used], aspect="auto", vmin=0, vmax=1, cmap="Greys", origin="lower")
    for (line, position), share in np.ndenumerate(shares[:, :used]):
        if not np.isnan(share):
            colour = "white" if share > 0.6 else "black"
            axis.text(position, line, f"{share:.2f}", ha="center", va="center", color=colour, fontsize=6)
    axis.set_xticks(range(used), range(1, used + 1))
    axis.set_xlabel("position in the draft")
    axis.grid(visible=False)


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
