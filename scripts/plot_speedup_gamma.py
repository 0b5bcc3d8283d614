"""Draw measured and predicted speed-up against gamma, one panel for each way of sampling."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specpress.kinds import kind_of
from specpress.plotting import Look, draw_series, empty_sheet, figure_command, label_line_ends, looks, panels
from specpress.wording import data_name, drafter_name, method_name, sampling_name, schedule_name

PREDICTED = "0.35"
PROMPTS = ["data", "baseline", "sampling", "batch", "prompt_tokens"]


def draw(summary: pd.DataFrame) -> Figure:
    """One panel for each combination of data, baseline and sampling, as wide as what it shows."""
    speed = speculative(summary)
    if not (speed.metric == "speedup").any():
        return empty_sheet("This study has no speculative experiment.")
    gammas = [int(gamma) for gamma in speed[speed.swept].gamma]
    marks = list(dict.fromkeys(speed[~speed.swept].series))
    first = max(gammas, default=0) + 3.5  # leaves room for the labels of the lines
    style = looks([*speed[speed.swept].series, *marks])
    groups = list(speed.groupby(["data", "baseline", "sampling"], dropna=False))
    places = [
        {name: first + 1.8 * i for i, name in enumerate(dict.fromkeys(rows[~rows.swept].series))} for _, rows in groups
    ]
    widths = [max(8.0, first + 1.8 * len(found)) for found in places]
    figure, axes = panels(len(groups), width_ratios=widths)
    for axis, (_, rows), found in zip(axes, groups, places, strict=True):
        draw_panel(axis, rows, found, style, sorted(set(gammas)))
        axis.set_title(panel_title(rows.iloc[0], [key for key in ("data", "baseline") if speed[key].nunique() > 1]))
    axes[0].set_ylabel("speed-up (×)")
    for axis, (_, rows) in zip(axes, groups, strict=True):  # once every panel has set the shared limits
        label_series(axis, rows)
    return figure


def speculative(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows to draw, with the series each belongs to; `swept` says whether the series runs over gamma."""
    rows = summary[(summary.kind == "speed") & summary.metric.isin(["speedup", "predicted_speedup"])]
    rows = rows[rows.estimate.notna()]
    drawn = [kind_of(row) in ("constant", "dynamic", "block", "other") for _, row in rows.iterrows()]
    rows = rows[pd.Series(drawn, index=rows.index, dtype=bool)]
    if rows.empty:
        return rows.assign(swept=[], series=[])
    constant = rows.gamma.notna()
    by_drafter = ["drafter", "draft_model", "drafter_parameters", "verification"]
    counts = rows[constant].groupby(by_drafter, dropna=False).gamma.transform("nunique")
    swept = constant & (counts.reindex(rows.index) > 1)
    prompts = [rows[key] for key in PROMPTS]
    gammas = rows.gamma.where(swept).groupby(prompts, dropna=False).transform("nunique")
    if gammas.max() > 1:  # panels for the prompts over which gamma was varied, and no others
        rows, swept = rows[gammas > 1], swept[gammas > 1]
    names = [series_name(row, bool(is_swept)) for (_, row), is_swept in zip(rows.iterrows(), swept, strict=True)]
    return rows.assign(swept=swept, series=names).sort_values(["drafter", "schedule", "gamma"], kind="stable")


def series_name(row: pd.Series, swept: bool) -> str:
    """What the legend or the axis calls the series of a row."""
    verification = "" if row.verification in ("token", None) or pd.isna(row.verification) else f", {row.verification}"
    if swept:
        who = row.draft_model if row.drafter == "draft_model" else drafter_name(row).lower()
        return f"{who}{verification}"
    if row.drafter == "draft_model" and not pd.isna(row.gamma):
        return f"{row.draft_model}, γ = {int(row.gamma)}{verification}"
    name = schedule_name(row).split(" from")[0] if row.drafter == "draft_model" else drafter_name(row)
    return f"{name}{verification}" if row.drafter in ("draft_model", "prompt_lookup") else method_name(row)


def panel_title(row: pd.Series, varied: list[str]) -> str:
    """How the panel samples, and below that what else differs between panels: data, baseline."""
    name = sampling_name(row)
    names = {"data": data_name(row.data), "baseline": str(row.baseline)}
    return "\n".join([name[0].upper() + name[1:], *(names[key] for key in varied)])


def draw_panel(axis: Axes, rows: pd.DataFrame, places: dict[str, float], style: dict[str, Look], gammas: list) -> None:
    """Swept series over gamma, then one place for each method without a gamma axis."""
    axis.axhline(1, color="black", linewidth=0.8)
    for name, series in rows[rows.swept].groupby("series", sort=False):
        dashed = Look(PREDICTED, style[name].marker, "--")
        draw_series(axis, series[series.metric == "predicted_speedup"], "gamma", dashed, filled=False)
        draw_series(axis, series[series.metric == "speedup"], "gamma", style[name])
    for name, mark in rows[~rows.swept].groupby("series", sort=False):
        mark = mark.assign(place=places[name])
        dashed = Look(PREDICTED, style[name].marker, "none")
        draw_series(axis, mark[mark.metric == "predicted_speedup"], "place", dashed, shift=0.35, filled=False)
        lone = Look(style[name].color, style[name].marker, "none")
        draw_series(axis, mark[mark.metric == "speedup"], "place", lone)
    axis.set_xticks([*gammas, *places.values()], [*map(str, gammas), *places])
    for label in axis.get_xticklabels()[len(gammas) :]:
        label.set(rotation=90, fontsize="x-small")
    axis.set_xlim(min([*gammas, *places.values()]) - 0.7, max([*gammas, *places.values()]) + 1.0)
    if gammas and places:
        axis.axvline(max(gammas) + 2.6, color="0.8", linewidth=0.6)
    if gammas:  # under their part of the axis
        axis.set_xlabel("draft tokens per iteration, γ", ha="left")
        axis.xaxis.set_label_coords(0, -0.17)


def label_series(axis: Axes, rows: pd.DataFrame) -> None:
    """Name measured and predicted where their lines start, and each series when there are several."""
    swept = rows[rows.swept]
    several = swept.series.nunique() > 1
    labels = []
    for (name, metric), series in swept.groupby(["series", "metric"], sort=False):
        last = series.loc[series.gamma.idxmax()]
        what = "measured" if metric == "speedup" else "predicted"
        color = "black" if metric == "speedup" else PREDICTED
        labels.append((last.gamma, last.estimate, f"{name}, {what}" if several else what, color))
    label_line_ends(axis, labels, gap=0.13)


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
