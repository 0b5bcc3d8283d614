"""Draw where a factor comes from: the steps of a chain, each a bar from the speed before it to its own."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from specpress.paper.plotting import PALETTE, empty_sheet, figure_command, panels

GAIN, LOSS, START = PALETTE[0], PALETTE[1], "0.55"


def draw(summary: pd.DataFrame) -> Figure:
    """The first chain of the study; hatched bars are losses."""
    rows = summary[(summary.kind == "chain") & summary.step.notna()]
    rows = rows[rows.experiment == rows.experiment.iloc[0]] if len(rows) else rows
    factors = rows[rows.metric == "factor"].set_index("step_number")
    totals = rows[(rows.metric == "factor_total") & rows.estimate.notna()].set_index("step_number").sort_index()
    if totals.empty:
        return empty_sheet("This study has no chain.")
    anchors = totals[~totals.index.isin(factors.index)]  # set against, but no step of the chain
    totals = totals[totals.index.isin(factors.index)]
    links = rows[~rows.step_number.isin(anchors.index)].drop_duplicates("step_number").sort_values("step_number")
    titles = list(links.step_title)
    places = {number: place for place, number in enumerate(links.step_number)}
    figure, (axis,) = panels(1, figsize=(6.5, 0.5 + 0.17 * len(titles)))
    before = 1.0
    axis.barh(0, 0.02, left=0.99, color=START)
    for number, total in totals.estimate.items():
        draw_step(axis, places[number], before, total, factors.loc[number], totals.loc[number])
        before = total
    for anchor in anchors.itertuples():
        axis.axvline(anchor.estimate, color="0.3", linewidth=0.8, linestyle="--")
        axis.annotate(
            anchor.step_title, (anchor.estimate, -0.6), xytext=(3, 0), textcoords="offset points", fontsize=6.5,
            color="0.3", va="center",
        )  # fmt: skip
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())
    low, high = axis.get_xlim()
    axis.set_xticks([tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= tick <= high])
    axis.set_yticks(range(len(titles)), titles)
    axis.invert_yaxis()
    axis.grid(axis="x")
    axis.grid(visible=False, axis="y")
    axis.set_xlabel(f"speed relative to “{titles[0]}” (×)")
    axis.margins(x=0.12)
    return figure


def draw_step(axis: Axes, number: int, before: float, after: float, factor: pd.Series, total: pd.Series) -> None:
    """A bar from the speed before to the speed after, the interval of the total, and the factor written beside it."""
    gain = after >= before
    axis.barh(
        number, after - before, left=before, height=0.6, hatch=None if gain else "////",
        color=GAIN if gain else "white", edgecolor=GAIN if gain else LOSS,
    )  # fmt: skip
    axis.plot([before, before], [number - 1.3, number + 0.3], color="0.6", linewidth=0.6)
    if pd.notna(total.low):
        axis.errorbar(after, number, xerr=[[after - total.low], [total.high - after]], color="black", elinewidth=0.8)
    edge = max(before, after, total.high if pd.notna(total.high) else 0)
    text = f"×{factor.estimate:.2f}"
    if pd.notna(factor.low):
        text += f" [{factor.low:.2f}, {factor.high:.2f}]"
    axis.annotate(
        text, (edge, number), xytext=(6, 0), textcoords="offset points", va="center", fontsize=6.5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
    )  # fmt: skip


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
