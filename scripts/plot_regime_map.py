"""Draw the speed-up of compression and of lossless self-speculation over batch and context, measured and predicted."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from specpress.paper.plotting import empty_sheet, figure_command

PANELS = {
    "press_speedup": "Press, measured",
    "predicted_press_speedup": "Press, predicted",
    "self_speedup": "Lossless, measured",
    "predicted_self_speedup": "Lossless, predicted",
}


def draw(summary: pd.DataFrame) -> Figure:
    """The first map: one heat map a quantity measured or predicted, all on one scale, every cell with its number."""
    rows = summary[(summary.kind == "regime") & summary.metric.isin(list(PANELS)) & summary.estimate.notna()]
    if rows.empty:
        return empty_sheet("This study has no map over batch and context.")
    rows = rows[rows.experiment == rows.experiment.iloc[0]]
    shown = [metric for metric in PANELS if (rows.metric == metric).any()]
    batches, contexts = sorted(rows.batch.unique(), reverse=True), sorted(rows.context.unique())
    widest = max(0.05, np.abs(np.log(rows.estimate)).max())
    norm = Normalize(-widest, widest)  # of the logarithm: no gain is the middle of the scale
    size = (max(3.0, 0.3 + 1.55 * len(shown)), 0.62 + 0.18 * len(batches))
    figure, axes = plt.subplots(1, len(shown), squeeze=False, sharey=True, figsize=size)
    for axis, metric in zip(axes[0], shown, strict=True):
        cells = rows[rows.metric == metric].set_index(["batch", "context"])
        draw_map(axis, cells, batches, contexts, norm)
        axis.set_title(PANELS[metric])
    axes[0][0].set_ylabel("batch")
    figure.supxlabel("context (tokens)", fontsize=8)
    return figure


def draw_map(axis: Axes, cells: pd.DataFrame, batches: list, contexts: list, norm: Normalize) -> None:
    """Darker is faster; a star marks an interval that excludes one; a cell that was not measured is blank."""
    table = cells.estimate.unstack().reindex(index=batches, columns=contexts)
    axis.imshow(np.ma.masked_invalid(np.log(table.to_numpy(float))), cmap="cividis_r", norm=norm, aspect="auto")
    for (batch, context), cell in cells.iterrows():
        color = "white" if norm(np.log(cell.estimate)) > 0.55 else "black"
        star = "*" if cell.low > 1 or cell.high < 1 else ""
        place = contexts.index(context), batches.index(batch)
        axis.text(*place, f"{cell.estimate:.2f}{star}", ha="center", va="center", fontsize=6.5, color=color)
    axis.set_xticks(range(len(contexts)), [f"{context:.0f}" for context in contexts])
    axis.set_yticks(range(len(batches)), [f"{batch:.0f}" for batch in batches])
    axis.grid(visible=False)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
