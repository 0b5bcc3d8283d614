"""Draw the training loss of each draft against the tokens it was trained on."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from specpress.paper.plotting import empty_sheet, figure_command, label_line_ends, looks, panels


def draw(observations: pd.DataFrame) -> Figure:
    """One curve a draft: the recorded losses, faint, and their running median when there are many of them."""
    losses = observations[(observations.kind == "draft") & (observations.metric == "loss") & observations.value.notna()]
    if losses.empty:
        return empty_sheet("This study trains no draft.")
    figure, (axis,) = panels(1, figsize=(3.6, 1.9))
    style = looks(losses.experiment)
    ends = []
    for name, curve in losses.groupby("experiment", sort=False):
        curve = curve.sort_values("tokens")
        smooth = curve.value.rolling(max(1, len(curve) // 25), center=True, min_periods=1).median()
        color = style[name].color
        sns.lineplot(x=curve.tokens, y=curve.value, ax=axis, color=color, alpha=0.3, linewidth=0.7)
        sns.lineplot(x=curve.tokens, y=smooth, ax=axis, color=color, linestyle=style[name].linestyle)
        ends.append((curve.tokens.iloc[-1], smooth.iloc[-1], str(name), color))
    axis.set_xlabel("training tokens")
    axis.set_ylabel("loss (nats per token)")
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    if len(ends) > 1:
        label_line_ends(axis, ends)
    return figure


if __name__ == "__main__":
    figure_command(__doc__, "observations", draw)
