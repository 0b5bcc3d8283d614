"""Draw how many tokens each schedule drafts, iteration by iteration."""

import pandas as pd
from matplotlib.figure import Figure

from specpress.paper.plotting import empty_sheet, figure_command, looks, panels
from specpress.paper.wording import SCHEDULES, sampling_name


def draw(observations: pd.DataFrame) -> Figure:
    """One line a schedule, the mean over prompts, with single prompts faint; the warmest sampling only."""
    rows = observations[(observations.metric == "draft_tokens") & observations.value.notna()]
    if rows.empty:
        return empty_sheet("This study has no schedule that changes the draft length.")
    rows = rows[rows.temperature == rows.temperature.max()]
    style = looks(rows.schedule)
    figure, (axis,) = panels(1, figsize=(3.2, 2.6))
    for schedule, series in rows.groupby("schedule", sort=False):
        for _, single in series.groupby(["experiment", "prompt"]):
            axis.plot(single.iteration, single.value, color=style[schedule].color, alpha=0.25, linewidth=0.5)
        alive = series.groupby("iteration").value.agg(["mean", "size"])
        mean = alive[alive["size"] >= alive["size"].max() / 2]["mean"]  # while half of the prompts are still decoding
        look, name = style[schedule], SCHEDULES.get(schedule, schedule)
        axis.plot(mean.index, mean, color=look.color, linestyle=look.linestyle, label=name)
    axis.set_xlabel("iteration")
    axis.set_ylabel("draft tokens")
    axis.set_ylim(bottom=0)
    title = sampling_name(rows.iloc[0])
    axis.set_title(title[0].upper() + title[1:])
    figure.legend(
        loc="outside upper center", ncols=3, handlelength=3, columnspacing=1.0
    )  # lines tell them apart in grey
    return figure


if __name__ == "__main__":
    figure_command(__doc__, "observations", draw)
