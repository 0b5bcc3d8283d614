"""Draw what drafts are worth: acceptance on validation text against seconds of training, and along a chain."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from specpress.paper.plotting import Look, empty_sheet, figure_command, label_line_ends, looks, panels
from specpress.paper.wording import data_name

BY_POSITION = "_acceptance_by_position"


def draw(observations: pd.DataFrame) -> Figure:
    """On the left a curve a draft; on the right the drafts whose acceptance depends on the position, a curve a text."""
    rows = observations[(observations.kind == "draft") & observations.value.notna()]
    seen = rows[rows.metric == "validation_acceptance"]
    if seen.empty:
        return empty_sheet("This study trains no draft.")
    along = rows[rows.metric.str.endswith(BY_POSITION)]
    along = along[along.groupby(["experiment", "metric"]).value.transform("size") > 1]
    style = looks(seen.experiment)
    figure, axes = panels(1 if along.empty else 2, figsize=(3.8 if along.empty else 6.6, 1.9))
    _draw_training(axes[0], seen, style)
    if not along.empty:
        _draw_positions(axes[1], along, style)
    return figure


def _draw_training(axis, seen: pd.DataFrame, style: dict[object, Look]) -> None:
    ends = []
    for name, curve in seen.groupby("experiment", sort=False):
        look = style[name]
        sns.lineplot(x=curve.seconds, y=curve.value, ax=axis, color=look.color, marker=look.marker, ls=look.linestyle)
        ends.append((curve.seconds.iloc[-1], curve.value.iloc[-1], str(name), look.color))
    axis.set_xlabel("seconds of training")
    axis.set_ylabel("acceptance, validation text")
    axis.set_ylim(bottom=0)
    if len(ends) > 1:
        label_line_ends(axis, ends)


def _draw_positions(axis, along: pd.DataFrame, style: dict[object, Look]) -> None:
    for (name, metric), curve in along.groupby(["experiment", "metric"], sort=False):
        look, text = style[name], data_name(metric.removesuffix(BY_POSITION))
        order = list(dict.fromkeys(along[along.experiment == name].metric)).index(metric)
        dashes = ("-", "--", ":", "-.")[order % 4]
        axis.plot(
            curve.iteration, curve.value, color=look.color, marker=look.marker, ls=dashes, label=f"{name}, {text}"
        )
    axis.set_xlabel("drafted token of a chain")
    axis.set_ylabel("acceptance, held-out text")
    axis.set_xticks(sorted(along.iteration.dropna().unique()))
    axis.legend(fontsize=6, frameon=False)


if __name__ == "__main__":
    figure_command(__doc__, "observations", draw)
