"""Draw speed-up against the increase in perplexity for every method and setting, and the front of the best ones."""

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from specpress.analysis.kinds import LOSSLESS, kind_of
from specpress.paper.cells import Cell
from specpress.paper.findings.blocks import best_established
from specpress.paper.findings.points import press_of
from specpress.paper.plotting import Look, cut_intervals, empty_sheet, figure_command, looks, panels
from specpress.paper.wording import method_name, press_setting

GROUPS = {
    "drafting (lossless)": ("constant", "other", "tree", "dynamic", "block", "cascade"),
    "compressed drafter (lossless)": ("self",),
    "drafting on a compressed target": ("lossy",),
    "press alone": ("press",),
}


def draw(summary: pd.DataFrame) -> Figure:
    """One marker a method and setting; lossless ones on the zero line; a step line joins the front."""
    points = placed(summary)
    if points.empty:
        return empty_sheet("This study has no speed-up to set against a perplexity.")
    style = looks(GROUPS)
    figure, (axis,) = panels(1, figsize=(3.2, 2.3))
    axis.axhline(1, color="black", linewidth=0.8)
    for group in GROUPS:
        if (points.group == group).any():
            draw_group(axis, points[points.group == group], style[group], group)
    draw_front(axis, points)
    axis.set_ylabel("speed-up (×)")
    axis.set_xlabel("increase in perplexity over the full cache")
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    cut_intervals(axis, high=1.4 * points.speedup.max())
    if len(points[points.cost > 0]):
        cut_intervals(axis, low=-0.1, high=1.6 * points.cost.max(), along="x")
    if points.cost.max() > 0.5:
        axis.set_xscale("symlog", linthresh=0.1, linscale=0.6)
        ticks = [tick for tick in (0, 0.1, 0.3, 1, 3, 10, 30) if tick <= 1.2 * points.cost.max()]
        axis.set_xticks(ticks)
        axis.minorticks_off()
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.legend(loc="outside upper center", ncols=2, fontsize=6.2, handletextpad=0.2, columnspacing=0.8)
    return figure


def placed(summary: pd.DataFrame) -> pd.DataFrame:
    """Every method with its speed-up and what it costs: experiments, and the presses timed step by step."""
    speed = summary[(summary.kind == "speed") & (summary.metric == "speedup") & summary.estimate.notna()]
    quality = summary[(summary.kind == "perplexity") & (summary.metric == "ppl_ratio") & summary.estimate.notna()]
    points = []
    for _, row in speed.iterrows():
        kind = kind_of(row)
        group = next((name for name, kinds in GROUPS.items() if kind in kinds), None)
        if group is None:
            continue
        cost = pd.Series({"estimate": 1.0, "low": 1.0, "high": 1.0}) if kind in LOSSLESS else cost_of(row, quality)
        if cost is not None:
            points.append(point(group, method_name(row), row, cost))
    steps = summary[(summary.kind == "perplexity") & (summary.metric == "step_speedup") & summary.estimate.notna()]
    keys = ["experiment", "ratio", "mode"]
    for _, row in steps[steps.ratio > 0].iterrows():
        same = quality[(quality[keys] == row[keys]).all(axis=1)]
        if len(same):
            points.append(point("press alone", press_setting(row), row, same.iloc[0]))
    return pd.DataFrame(points)


def point(group: str, name: str, row: pd.Series, cost: pd.Series) -> dict:
    """A method on the plane; costs are increases, so that 0 is no loss."""
    return {
        "group": group, "name": name, "gain": Cell.of(row), "speedup": row.estimate, "low": row.low, "high": row.high,
        "cost": cost.estimate - 1, "cost_low": cost.low - 1, "cost_high": cost.high - 1,
    }  # fmt: skip


def cost_of(row: pd.Series, quality: pd.DataFrame) -> pd.Series | None:
    """The perplexity ratio of a method's press on its model, on its data where measured, at the nearest context."""
    mode = "once" if pd.isna(row.cache_budget) else "decoding"
    same = quality[np.array([press_of(measured) == press_of(row) for _, measured in quality.iterrows()], dtype=bool)]
    same = same[np.isclose(same.ratio, row.ratio) & (same["mode"] == mode)]
    same = same[same.data == row.data] if (same.data == row.data).any() else same
    return None if same.empty else same.loc[(same.context - row.prompt_tokens).abs().idxmin()]


def draw_group(axis: Axes, rows: pd.DataFrame, look: Look, label: str) -> None:
    """The markers of one group, with intervals both ways."""
    ends = [[rows.speedup - rows.low.fillna(rows.speedup), rows.high.fillna(rows.speedup) - rows.speedup],
            [rows.cost - rows.cost_low.fillna(rows.cost), rows.cost_high.fillna(rows.cost) - rows.cost]]  # fmt: skip
    axis.errorbar(
        rows.cost, rows.speedup, yerr=ends[0], xerr=ends[1], linestyle="none", fmt=look.marker, color=look.color,
        markersize=3.5, elinewidth=0.5, capsize=0, alpha=0.8, label=label,
    )  # fmt: skip


def draw_front(axis: Axes, points: pd.DataFrame) -> None:
    """The methods that none beats both ways, joined by steps; of all, and of the lossless, the fastest is named.

    That is the one whose gain is best established, as in the text.
    """
    front, best = [], -np.inf
    for row in points.sort_values(["cost", "speedup"], ascending=[True, False]).itertuples():
        if row.speedup > best:
            front.append(row)
            best = row.speedup
    axis.step([row.cost for row in front], [row.speedup for row in front], where="post", color="0.3", linewidth=0.8)
    fastest = [fastest_of(points), fastest_of(points[points.group.str.contains("lossless")])]
    for name, row in {row["name"]: row for row in fastest if row is not None}.items():
        note = axis.annotate(
            fill(name, 28), (row.cost, row.speedup), xytext=(6, 4), textcoords="offset points", fontsize=6.2,
            color="0.2", bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8},
        )  # fmt: skip
        note.set_in_layout(False)  # a long name takes no room from the points


def fastest_of(points: pd.DataFrame) -> pd.Series | None:
    """The method whose gain is best established; None of none."""
    best = best_established(list(points.gain))
    return None if best is None else points.iloc[best]


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
