"""Draw measured and predicted speed-up against gamma, one panel for each way of sampling."""

from textwrap import fill

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from specpress.analysis.factors import prompt_lengths
from specpress.analysis.kinds import of_kinds
from specpress.paper.plotting import Look, cut_intervals, draw_series, empty_sheet, figure_command, looks, panels
from specpress.paper.wording import PROMPT_WORDS, drafter_name, method_name, sampling_name, schedule_name

PREDICTED = "0.35"
WIDEST, UNBROKEN = 22, 60  # characters in a line of the name of a method without a gamma axis, as room allows
APART = 1.8  # between the places of such methods, draft lengths
LINE, BOLD = 0.1, 0.072  # inches: of a line of their names, of a bold character
MARGIN = 0.6  # inches, left of all panels
PROMPTS = ["data", "baseline", "batch", "prompt_limit", "sampling"]


def draw(summary: pd.DataFrame) -> Figure:
    """One panel for each kind of prompts, against one baseline, sampled in one way; as wide as what it shows."""
    speed = speculative(summary)
    if not (speed.metric == "speedup").any():
        return empty_sheet("This study has no speculative experiment.")
    gammas = [int(gamma) for gamma in speed[speed.swept].gamma]
    marks = list(dict.fromkeys(speed[~speed.swept].series))
    first = max(gammas, default=0) + 2.4
    style = looks([*speed[speed.swept].series, *marks])
    groups = list(speed.groupby(PROMPTS, dropna=False))
    places = [
        {name: first + APART * i for i, name in enumerate(dict.fromkeys(rows[~rows.swept].series))}
        for _, rows in groups
    ]
    widths = [max(8.0, first + APART * len(found)) for found in places]
    wide = 6.5 if len(groups) > 1 else 3.8
    unit = (wide - MARGIN) / sum(widths)  # inches a draft length
    room = WIDEST if LINE * lines_of(marks) <= APART * unit else UNBROKEN
    longest = max((len(line) for name in marks for line in in_lines(name, room).split("\n")), default=0)
    varied = [key for key in PROMPTS if key != "sampling" and speed[key].nunique() > 1]
    titles = [
        panel_title(rows.iloc[0], varied, int(width * unit / BOLD))
        for (_, rows), width in zip(groups, widths, strict=True)
    ]
    size = (wide, 2.2 + 0.05 * longest + LINE * (max(title.count("\n") for title in titles) - len(varied)))
    figure, axes = panels(len(groups), width_ratios=widths, figsize=size)
    for axis, (_, rows), found, title in zip(axes, groups, places, titles, strict=True):
        draw_panel(axis, rows, found, style, sorted(set(gammas)), room)
        axis.set_title(title)
    for axis in axes:  # once all are drawn: they share their scale
        cut_intervals(axis, high=1.4 * speed.estimate.max())
    axes[0].set_ylabel("speed-up (×)")
    figure.legend(handles=handles(speed, style), loc="outside upper center", ncols=3)
    return figure


def speculative(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows to draw, with the series each belongs to; `swept` says whether the series runs over gamma."""
    rows = summary[(summary.kind == "speed") & summary.metric.isin(["speedup", "predicted_speedup"])]
    rows = rows[rows.estimate.notna()].assign(prompt_limit=prompt_lengths(rows))
    rows = of_kinds(rows, ("constant", "dynamic", "block", "other"))
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


def in_lines(name: str, room: int) -> str:
    """The name of a series in lines of `room` characters, none of which ends within a draft length."""
    return fill(name.replace(" = ", "\u00a0=\u00a0"), room)


def lines_of(names: list[str]) -> int:
    """The most lines that one of the names takes where they are short."""
    return max((in_lines(name, WIDEST).count("\n") + 1 for name in names), default=1)


def panel_title(row: pd.Series, varied: list[str], room: int) -> str:
    """How the panel samples, and below that what else differs between panels, in lines of `room` characters."""
    name = sampling_name(row)
    words = {**PROMPT_WORDS, "baseline": str}
    lines = [name[0].upper() + name[1:], *(words[key](row[key]) for key in varied)]
    return "\n".join(fill(line, max(room, 8)) for line in lines)


def draw_panel(
    axis: Axes, rows: pd.DataFrame, places: dict[str, float], style: dict[str, Look], gammas: list, room: int
) -> None:
    """Swept series over gamma, then one place for each method without a gamma axis, named in lines of `room`."""
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
    axis.set_xticks([*gammas, *places.values()], [*map(str, gammas), *(in_lines(name, room) for name in places)])
    for label in axis.get_xticklabels()[len(gammas) :]:
        label.set(rotation=90, fontsize=6)
    axis.set_xlim(min([*gammas, *places.values()]) - 0.7, max([*gammas, *places.values()]) + 1.0)
    if gammas and places:
        axis.axvline(max(gammas) + 1.5, color="0.8", linewidth=0.6)
    if gammas:  # under their part of the axis
        axis.set_xlabel("draft tokens, γ", ha="left")
        below = ScaledTranslation(0, -16 / 72, axis.figure.dpi_scale_trans)
        axis.xaxis.set_label_coords(0, 0, transform=axis.transAxes + below)


def handles(speed: pd.DataFrame, style: dict[str, Look]) -> list[Line2D]:
    """The legend: each series over gamma when there are several, measured and predicted otherwise."""
    names = list(dict.fromkeys(speed[speed.swept].series))
    several = len(names) > 1
    found = [
        Line2D([], [], color=style[name].color, marker=style[name].marker, linestyle=style[name].linestyle,
               label=f"{name}, measured" if several else "measured")
        for name in names
    ]  # fmt: skip
    if (speed.metric == "predicted_speedup").any():
        found.append(
            Line2D([], [], color=PREDICTED, marker="o", markerfacecolor="white", linestyle="--", label="predicted")
        )
    return found


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
