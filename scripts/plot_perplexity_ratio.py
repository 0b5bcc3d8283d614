"""Draw perplexity relative to the uncompressed cache against the share of the cache removed, one panel a data set."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from specpress.plotting import draw_series, empty_sheet, figure_command, label_line_ends, looks, panels
from specpress.wording import data_name, press_name


def draw(summary: pd.DataFrame) -> Figure:
    """One panel a data set (and model, when there are several), one line a press."""
    rows = summary[(summary.kind == "perplexity") & (summary.metric == "ppl_ratio") & summary.estimate.notna()]
    if rows.empty:
        return empty_sheet("This study has no perplexity experiment with an uncompressed reference.")
    style = looks(sorted(rows.press, key=press_name))
    groups = list(rows.groupby(["data", "model"]))
    figure, axes = panels(len(groups))
    for axis, ((data, model), panel) in zip(axes, groups, strict=True):
        axis.axhline(1, color="black", linewidth=0.8)
        for position, (press, series) in enumerate(panel.groupby("press")):
            draw_series(axis, series, "ratio", style[press], shift=0.006 * (position - (panel.press.nunique() - 1) / 2))
        axis.set_title(data_name(data) + (f", {model}" if rows.model.nunique() > 1 else ""))
        axis.set_xlabel("share of the cache removed")
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set_xticks(sorted(rows.ratio.unique()))
    axes[0].set_ylabel("relative perplexity (×)")
    for axis, (_, panel) in zip(axes, groups, strict=True):
        last = panel.loc[panel.groupby("press").ratio.idxmax()]
        label_line_ends(
            axis, [(r.ratio, r.estimate, press_name(r.press), style[r.press].color) for r in last.itertuples()]
        )
        axis.margins(x=0.05)
    return figure


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
