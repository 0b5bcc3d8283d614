"""Draw perplexity relative to the uncompressed cache against the share of the cache removed, one panel a press."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter, ScalarFormatter

from specpress.paper.findings.points import press_labels
from specpress.paper.plotting import Look, cut_intervals, draw_series, empty_sheet, figure_command, looks
from specpress.paper.wording import data_name

COLUMNS = 5


def draw(summary: pd.DataFrame) -> Figure:
    """Panels ordered by perplexity, rows scaled apart; a line a data set (model, context) and way of compressing."""
    rows = summary[(summary.kind == "perplexity") & (summary.metric == "ppl_ratio") & summary.estimate.notna()]
    rows = rows[rows.press.notna()]
    if rows.empty:
        return empty_sheet("This study has no perplexity of a press with an uncompressed reference.")
    rows = rows.assign(block=block_names(rows), press=press_labels(rows))
    style = looks(sorted(rows.block))
    presses = ordered(rows)
    columns = min(COLUMNS, len(presses))
    lines = int(np.ceil(len(presses) / columns))
    size = (6.5 if columns > 2 else 3.8, 0.75 + 1.05 * lines)
    figure, axes = plt.subplots(lines, columns, squeeze=False, sharex=True, sharey="row", figsize=size)
    for axis, press in zip(axes.flat, presses, strict=False):
        draw_press(axis, rows[rows.press == press], style)
        axis.set_title(press, fontsize=7)
    for axis in axes.flat[len(presses) :]:
        axis.set_axis_off()
    for axis in axes.flat:
        axis.label_outer()
    for row in axes:
        shown = rows[rows.press.isin([axis.get_title(loc="left") for axis in row])].estimate
        for axis in row:
            cut_intervals(axis, low=shown.min() / 1.6, high=shown.max() * 1.6)
        low, high = row[0].get_ylim()
        ticks = (0.5, 0.8, 1, 1.2, 1.5, 2) if high < 3 else (0.5, 1, 2, 5, 10, 20, 50, 100, 1000)
        row[0].set_yticks([tick for tick in ticks if low <= tick <= high])
    figure.supxlabel("share of the cache removed (%)", fontsize=8)
    figure.supylabel("relative perplexity (×)", fontsize=8)
    figure.legend(
        handles=handles(rows, style), loc="outside upper center", ncols=min(3, columns), columnspacing=1.0, fontsize=6.5
    )
    return figure


def draw_press(axis: plt.Axes, rows: pd.DataFrame, style: dict[str, Look]) -> None:
    """The lines of one press: solid once, dashed while decoding, which starts from the same full cache."""
    axis.axhline(1, color="black", linewidth=0.8)
    for block, series in rows.groupby("block"):
        full = series[series.ratio == 0]
        look = style[block]
        draw_series(axis, series[series["mode"] == "once"], "ratio", Look(look.color, look.marker, "-"))
        decoding = series[series["mode"] == "decoding"]
        if len(decoding):
            joined = pd.concat([full, decoding])
            draw_series(axis, joined, "ratio", Look(look.color, look.marker, "--"), filled=False)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.yaxis.set_minor_formatter("")
    axis.set_xticks([ratio for ratio in sorted(rows.ratio.unique()) if ratio in (0, 0.3, 0.5, 0.7, 0.9)])
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=""))
    axis.tick_params(axis="x", labelsize=6)
    for line in axis.lines:
        line.set_markersize(3)


def block_names(rows: pd.DataFrame) -> list[str]:
    """Data set, with model and context where they vary."""
    several = rows.context.nunique() > 1, rows.model.nunique() > 1
    return [
        data_name(row.data)
        + (f", {row.context:.0f} tokens" if several[0] else "")
        + (f", {row.model}" if several[1] else "")
        for row in rows.itertuples()
    ]


def ordered(rows: pd.DataFrame) -> list[str]:
    """Presses from the lowest mean log perplexity ratio, once, to the highest."""
    once = rows[rows["mode"] == "once"]
    return list(np.log(once.estimate).groupby(once.press).mean().sort_values().index)


def handles(rows: pd.DataFrame, style: dict[str, Look]) -> list[Line2D]:
    """The legend: a block each, and the ways of compressing when there are two."""
    found = [
        Line2D([], [], color=look.color, marker=look.marker, markersize=3, label=name) for name, look in style.items()
    ]
    if rows["mode"].nunique() > 1:
        found += [
            Line2D([], [], color="0.3", linestyle="-", label="once"),
            Line2D([], [], color="0.3", linestyle="--", label="while decoding"),
        ]
    return found


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
