"""Draw the speed-up of compression and of lossless self-speculation over batch and context, measured and predicted."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from specpress.plotting import empty_sheet, figure_command

PANELS = {
    "press_speedup": "Press, measured",
    "predicted_press_speedup": "Press, predicted",
    "self_speedup": "Lossless, measured",
    "predicted_self_speedup": "Lossless, predicted",
}


def draw(summary: pd.DataFrame) -> Figure:
    """One heat map for each quantity that was measured or predicted, all on one scale, every cell with its number."""
    rows = summary[(summary.kind == "regime") & summary.metric.isin(list(PANELS)) & summary.estimate.notna()]
    if rows.empty:
        return empty_sheet("This study has no map over batch and context.")
    rows = rows[rows.experiment == rows.experiment.iloc[0]]
    shown = [metric for metric in PANELS if (rows.metric == metric).any()]
    batches, contexts = sorted(rows.batch.unique(), reverse=True), sorted(rows.context.unique())
    widest = max(0.05, np.abs(np.log(rows.estimate)).max())
    norm = Normalize(-widest, widest)  # of the logarithm: no gain is the middle of the scale
    size = (max(3.0, 0.3 + 1.5 * len(shown)), 0.75 + 0.24 * len(batches))
    figure, axes = plt.subplots(1, len(shown), squeeze=False, sharey=True, figsize=size)
    for axis, metric in zip(axes[0], shown, strict=True):
        table = rows[rows.metric == metric].pivot_table(index="batch", columns="context", values="estimate")
        draw_map(axis, table.reindex(index=batches, columns=contexts), norm)
        axis.set_title(PANELS[metric])
    axes[0][0].set_ylabel("batch")
    figure.supxlabel("context (tokens)", fontsize=8)
    return figure


def draw_map(axis: Axes, table: pd.DataFrame, norm: Normalize) -> None:
    """Darker is faster; a cell that was not measured is blank. The numbers tell what grey cannot."""
    axis.imshow(np.ma.masked_invalid(np.log(table.to_numpy(float))), cmap="cividis_r", norm=norm, aspect="auto")
    for (y, x), value in np.ndenumerate(table.to_numpy(float)):
        if np.isfinite(value):
            color = "white" if norm(np.log(value)) > 0.6 else "black"
            axis.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=color)
    axis.set_xticks(range(len(table.columns)), [f"{context:.0f}" for context in table.columns])
    axis.set_yticks(range(len(table.index)), [f"{batch:.0f}" for batch in table.index])
    axis.grid(visible=False)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
