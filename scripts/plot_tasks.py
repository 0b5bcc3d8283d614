"""Draw accuracy on tasks, perplexity and the time of a step, by press, against the share of the cache removed."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from specpress.analysis.metrics.tasks import ALL
from specpress.paper.findings.points import press_labels
from specpress.paper.plotting import Look, draw_series, empty_sheet, figure_command, looks, panels
from specpress.paper.wording import MODES

PANELS = {
    "accuracy": "accuracy on tasks (%)",
    "ppl_ratio": "relative perplexity (×)",
    "step_time": "time of a step (×)",
}
APART = 0.008  # of the share removed, between the intervals of two presses


def draw(summary: pd.DataFrame) -> Figure:
    """Three panels with one look a press; of several experiments on tasks, the first with a task that can be done."""
    tasks = summary[(summary.kind == "tasks") & (summary.task == ALL) & (summary.metric == "accuracy")]
    if tasks.empty:
        return empty_sheet("This study has no task that the full cache can do.")
    tasks = tasks[tasks.experiment == tasks.experiment.iloc[0]]
    beside = nearest_curves(summary, tasks.iloc[0])
    labels = press_labels(pd.concat([tasks, beside]))
    tasks, beside = tasks.assign(press=labels), beside.assign(press=labels)
    presses = list(tasks.press.dropna().unique())
    style = looks(presses)
    figure, axes = panels(len(PANELS), sharey=False, figsize=(6.5, 2.3))
    drawn = {"accuracy": tasks, "ppl_ratio": beside[beside.metric == "ppl_ratio"], "step_time": step_times(beside)}
    for axis, (name, label) in zip(axes, PANELS.items(), strict=True):
        draw_panel(axis, drawn[name], style, modes=name == "accuracy")
        axis.set(xlabel="share removed (%)", ylabel=label)
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=""))
    axes[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=""))
    if axes[1].has_data():
        axes[1].set_yscale("log")
        axes[1].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes[1].yaxis.set_minor_formatter("")
        axes[1].set_yticks([tick for tick in (1, 1.2, 1.5, 2, 5, 10, 100) if tick <= axes[1].get_ylim()[1]])
    handles = [
        Line2D([], [], color=look.color, marker=look.marker, markersize=3, label=press) for press, look in style.items()
    ]
    if tasks["mode"].nunique() > 1:
        ways = zip(MODES.items(), ("-", "--"), strict=True)
        handles += [Line2D([], [], color="0.3", linestyle=line, label=name) for (_, name), line in ways]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, fontsize=6.5, columnspacing=1.0)
    return figure


def draw_panel(axis: Axes, rows: pd.DataFrame, style: dict[str, Look], *, modes: bool) -> None:
    """The lines of every press: solid, and dashed and hollow where it saw the question; all from the full cache."""
    if rows.empty:
        axis.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axis.transAxes, fontsize=7)
        return
    full = rows[rows.press.isna()]
    for place, (press, look) in enumerate(style.items()):
        shift = APART * (place - (len(style) - 1) / 2)
        for mode, line in (("agnostic", "-"), ("aware", "--")) if modes else ((None, "-"),):
            series = rows[(rows.press == press) & ((rows["mode"] == mode) if modes else True)]
            if len(series):
                joined = pd.concat([full, series])
                draw_series(
                    axis, joined, "ratio", Look(look.color, look.marker, line), shift=shift, filled=mode != "aware"
                )
    for line in axis.lines:
        line.set_markersize(3)


def nearest_curves(summary: pd.DataFrame, task: pd.Series) -> pd.DataFrame:
    """Perplexity, compressed once, on the text and model of a task: of each press at the nearest context measured."""
    rows = summary[(summary.kind == "perplexity") & (summary["mode"] == "once") & summary.estimate.notna()]
    rows = rows[(rows.data == task.data) & (rows.model == task.model)]
    away = (rows.context - task.context).abs()
    return rows[away == away.groupby([rows.press, rows.press_parameters, rows.metric], dropna=False).transform("min")]


def step_times(rows: pd.DataFrame) -> pd.DataFrame:
    """Time of a step over that on the full cache: the inverse of its gain, with the ends of its interval exchanged."""
    gains = rows[(rows.metric == "step_speedup") & (rows.ratio > 0)]
    full = gains.drop_duplicates("press").assign(ratio=0.0, estimate=1.0, low=1.0, high=1.0)
    return pd.concat([full, gains.assign(estimate=1 / gains.estimate, low=1 / gains.high, high=1 / gains.low)])


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
