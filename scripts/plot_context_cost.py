"""Draw time per token and bytes of the KV cache against context, on the full and on the compressed cache."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specpress.paper.plotting import (
    Look,
    cut_intervals,
    draw_series,
    empty_sheet,
    figure_command,
    label_line_ends,
    looks,
    panels,
)
from specpress.paper.wording import press_name

ROOM = 1.5  # times the longest time, for intervals of a few repeats in a bad minute
CACHES = {"full": "full cache", "press": "compressed"}


def draw(summary: pd.DataFrame) -> Figure:
    """Time on the left, with the roofline dashed; memory on the right; at the smallest batch of the first map."""
    rows = summary[(summary.kind == "regime") & summary.batch.notna() & summary.estimate.notna()]
    if rows.empty:
        return empty_sheet("This study has no map over batch and context.")
    rows = rows[rows.experiment == rows.experiment.iloc[0]]
    rows = rows[rows.batch == rows.batch.min()]
    style = looks(CACHES)
    first = rows.iloc[0]
    figure, axes = panels(2, figsize=(6.5, 1.6), sharey=False)
    draw_times(axes[0], rows, style)
    draw_bytes(axes[1], rows, style)
    axes[0].set_title(f"Batch {first.batch:.0f}, {press_name(first.press)}, {100 * first.ratio:.0f}% removed")
    return figure


def draw_times(axis: Axes, rows: pd.DataFrame, style: dict[str, Look]) -> None:
    """Measured times of a step with their intervals, predicted ones dashed and hollow."""
    ends = []
    for cache, name in CACHES.items():
        measured = rows[rows.metric == f"{cache}_step_ms"]
        look = style[cache]
        draw_series(axis, measured, "context", Look(look.color, look.marker, "-"))
        predicted = rows[rows.metric == f"predicted_{cache}_step_ms"]
        if len(predicted):
            draw_series(axis, predicted, "context", Look(look.color, look.marker, "--"), filled=False)
        if len(measured):
            last = measured.loc[measured.context.idxmax()]
            ends.append((last.context, last.estimate, name, look.color))
    axis.set(xlabel="context (tokens)", ylabel="time per token (ms)")
    axis.set_ylim(bottom=0)
    cut_intervals(axis, high=ROOM * rows[rows.metric.str.endswith("_step_ms")].estimate.max())
    label_line_ends(axis, ends, gap=0.13)


def draw_bytes(axis: Axes, rows: pd.DataFrame, style: dict[str, Look]) -> None:
    """Bytes of keys and values, in MiB."""
    ends = []
    for cache, name in CACHES.items():
        series = rows[rows.metric == f"kv_bytes_{cache}"]
        series = series.assign(estimate=series.estimate / 2**20)
        draw_series(axis, series, "context", Look(style[cache].color, style[cache].marker, "-"))
        if len(series):
            last = series.loc[series.context.idxmax()]
            ends.append((last.context, last.estimate, name, style[cache].color))
    axis.set(xlabel="context (tokens)", ylabel="KV cache (MiB)")
    axis.set_ylim(bottom=0)
    label_line_ends(axis, ends, gap=0.13)


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
