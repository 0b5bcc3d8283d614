"""Draw the acceptance of drafts made on a compressed copy of the target's own cache, by press and share removed."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specpress.paper.plotting import MARKERS, PALETTE, empty_sheet, figure_command, panels
from specpress.paper.wording import data_name, press_name

LONG = 2000  # tokens of context


def draw(summary: pd.DataFrame) -> Figure:
    """One panel a data set and context of at least `LONG` tokens, one row a press, one marker a share removed."""
    rows = summary[(summary.kind == "perplexity") & (summary.metric == "acceptance") & summary.estimate.notna()]
    rows = rows[(rows.context >= LONG) & (rows["mode"] == "once")]
    if rows.empty:
        return empty_sheet("This study measures no acceptance on long contexts.")
    ratio = rows.ratio.mode().max()
    presses = list(rows[rows.ratio == ratio].groupby("press").estimate.mean().sort_values().index)
    presses = [press for press in rows.press.unique() if press not in presses] + presses
    groups = list(rows.groupby(["data", "context"]))
    size = (3.2 * min(2, len(groups)), 2.3)
    figure, axes = panels(len(groups), figsize=size)
    ratios = sorted(rows.ratio.unique())
    for axis, ((data, context), panel) in zip(axes, groups, strict=True):
        draw_panel(axis, panel, presses, ratios)
        axis.set_title(f"{data_name(data)}, {context:.0f} tokens")
        axis.set_xlabel("acceptance")
    axes[0].set_yticks(range(len(presses)), [press_name(press) for press in presses])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(ratios), handletextpad=0.2)
    return figure


def draw_panel(axis: Axes, panel: pd.DataFrame, presses: list[str], ratios: list[float]) -> None:
    """A marker for each press and ratio, with its interval."""
    for position, ratio in enumerate(ratios):
        series = panel[panel.ratio == ratio]
        shift = 0.22 * ((len(ratios) - 1) / 2 - position)  # the least removed above
        ends = [
            series.estimate - series.low.fillna(series.estimate),
            series.high.fillna(series.estimate) - series.estimate,
        ]
        axis.errorbar(
            series.estimate, series.press.map(presses.index) + shift, xerr=ends, linestyle="none", elinewidth=0.8,
            fmt=MARKERS[position % len(MARKERS)], color=PALETTE[position % len(PALETTE)], markersize=4,
            label=f"{100 * ratio:g}% removed",
        )  # fmt: skip
    axis.grid(axis="x")
    axis.grid(visible=True, axis="y", linewidth=0.3)
    axis.set_xlim(right=1.0)


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
