"""Draw tokens per iteration and speed-up against the number of tokens drafted, as trees and as paths."""

from textwrap import fill

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from specpress.analysis.factors import prompt_lengths
from specpress.analysis.kinds import of_kinds
from specpress.paper.plotting import Look, cut_intervals, draw_series, empty_sheet, figure_command, looks, panels
from specpress.paper.wording import PROMPT_WORDS, drafter_name, is_only_sampling, is_sampling, sampling_name

METRICS = {"tokens_per_iteration": "tokens per iteration", "speedup": "speed-up (×)"}


def draw(summary: pd.DataFrame) -> Figure:
    """One panel a metric, one series a drafter and way of sampling; hollow where the same is grown as a path."""
    rows = trees(summary)
    if rows.empty:
        return empty_sheet("This study has no trees of a constant size.")
    style = looks(rows.series)
    figure, axes = panels(2, sharey=False, figsize=(3.2, 1.9 + 0.16 * len(style)))
    for axis, (metric, name) in zip(axes, METRICS.items(), strict=True):
        draw_panel(axis, rows[rows.metric == metric], style)
        axis.set_title(name)
    handles = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle=look.linestyle, label=fill(name, 56),
               markerfacecolor="white" if " as a path" in name else look.color)
        for name, look in style.items()
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper center", ncols=1, fontsize=6.2)
    return figure


def trees(summary: pd.DataFrame) -> pd.DataFrame:
    """Both metrics of every tree of a constant size, with the series it belongs to."""
    rows = summary[(summary.kind == "speed") & summary.metric.isin(METRICS) & summary.estimate.notna()]
    rows = rows[rows.gamma.notna()]
    rows = of_kinds(rows, ["tree"])
    each = [row for _, row in rows.iterrows()]
    alike = is_only_sampling(each)
    ways = ["sampled" if alike and is_sampling(row) else sampling_name(row) for row in each]
    rows = rows.assign(prompt_limit=prompt_lengths(rows))
    rows = rows.assign(series=[f"{drafter_name(row)}, {way}" for row, way in zip(each, ways, strict=True)])
    return rows.assign(series=rows.series + apart_by(rows))


def apart_by(rows: pd.DataFrame) -> pd.Series:
    """What else than the number of nodes differs between the rows of one series, after a comma, if anything."""
    said = pd.Series("", index=rows.index)
    words = {**PROMPT_WORDS, "baseline": "against {}".format, "verification": "{} verification".format}
    for key, word in words.items():
        several = rows.groupby("series")[key].transform("nunique") > 1
        said = said.where(~several, said + rows[key].map(lambda value, word=word: f", {word(value)}").astype(str))
    return said


def draw_panel(axis: Axes, rows: pd.DataFrame, style: dict[str, Look]) -> None:
    """Each series over the number of nodes; one is where nothing is gained."""
    axis.axhline(1, color="black", linewidth=0.8)
    step = 0.045 * (rows.gamma.max() - rows.gamma.min() or 1)  # beside each other where sizes are the same
    groups = sorted(rows.groupby("series", sort=False), key=lambda group: -len(group[1]))
    for place, (name, series) in enumerate(groups):  # the longest on its sizes, the others right and left of it in turn
        shift = step * ((place + 1) // 2) * (1 if place % 2 else -1)
        draw_series(axis, series, "gamma", style[name], shift=shift, filled=" as a path" not in name)
    axis.set_ylim(0, max(axis.get_ylim()[1], 1.1 * rows.estimate.max()))
    cut_intervals(axis, high=1.6 * rows.estimate.max())
    axis.set_xticks(sorted(rows.gamma.unique()))
    axis.set_xlabel("nodes")


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
