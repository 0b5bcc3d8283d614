"""Draw the tokens that an iteration of the target commits, by drafter, for each way of sampling."""

from textwrap import fill

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from specpress.analysis.kinds import LOSSLESS, kind_of
from specpress.paper.plotting import PALETTE, empty_sheet, figure_command, panels
from specpress.paper.wording import counted_nodes, drafter_name, is_tree, sampling_name, schedule_name, tree_size


def draw(summary: pd.DataFrame) -> Figure:
    """One row a drafter, at the draft length most of them share; filled and hollow tell the samplings apart."""
    rows = accepted(summary)
    if rows.empty:
        return empty_sheet("This study has no experiment with a drafter.")
    names = rows.groupby("name").estimate.max().sort_values().index
    samplings = list(dict.fromkeys(rows.sort_values("temperature", ascending=False).sampling))
    gammas = rows.groupby("name").gamma.first()
    trees = set(rows.name[[is_tree(row) for _, row in rows.iterrows()]])
    sizes = {name: counted_nodes(gammas[name]) if name in trees else f"γ = {gammas[name]:.0f}" for name in names}
    labels = [fill(name if pd.isna(gammas[name]) else f"{name}, {sizes[name]}", 36) for name in names]
    lines = [1 + 0.9 * label.count("\n") for label in labels]
    places = {name: sum(lines[:i]) + lines[i] / 2 for i, name in enumerate(names)}
    figure, (axis,) = panels(1, figsize=(3.2, 0.6 + 0.14 * sum(lines)))
    axis.axvline(1, color="black", linewidth=0.8)
    for position, sampling in enumerate(samplings):
        series = rows[rows.sampling == sampling]
        y = series.name.map(places) + 0.16 * (position - (len(samplings) - 1) / 2)
        ends = [
            series.estimate - series.low.fillna(series.estimate),
            series.high.fillna(series.estimate) - series.estimate,
        ]
        face = PALETTE[position % len(PALETTE)] if position == 0 else "white"
        axis.errorbar(
            series.estimate, y, xerr=ends, fmt="os^D"[position % 4], color=PALETTE[position % len(PALETTE)],
            markerfacecolor=face, elinewidth=0.8, linestyle="none",
        )  # fmt: skip
    axis.set_yticks(list(places.values()), labels, fontsize=6.2)
    axis.grid(axis="x")
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("tokens per iteration")
    titles = [sampling_name(rows[rows.sampling == sampling].iloc[0]) for sampling in samplings]
    if len(titles) > 1:
        handles = [
            Line2D([], [], marker="os^D"[i % 4], linestyle="none", color=PALETTE[i % len(PALETTE)],
                   markerfacecolor=PALETTE[0] if i == 0 else "white", label=title)
            for i, title in enumerate(titles)
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside upper center", ncols=2, handletextpad=0.2, columnspacing=0.8)
    return figure


def accepted(summary: pd.DataFrame) -> pd.DataFrame:
    """Tokens per iteration of each lossless drafter, once a sampling, at the most common constant length it has."""
    rows = summary[(summary.kind == "speed") & (summary.metric == "tokens_per_iteration") & summary.estimate.notna()]
    rows = rows[[kind_of(row) in LOSSLESS for _, row in rows.iterrows()]]
    if rows.empty:
        return rows
    common = rows.gamma.mode()
    distance = (rows.gamma - (common.iloc[0] if len(common) else 0)).abs().fillna(0)
    rows = rows.assign(name=[name_of(row, summary) for _, row in rows.iterrows()], distance=distance)
    return rows.sort_values("distance", kind="stable").drop_duplicates(["name", "sampling"])


def name_of(row: pd.Series, summary: pd.DataFrame) -> str:
    """Who drafts, with its schedule unless constant, its verification unless by token, and its context if they vary."""
    name = drafter_name(row)
    if pd.isna(row.gamma):
        name += f", {tree_size(row) if is_tree(row) else schedule_name(row).split(' from')[0]}"
    if not pd.isna(row.verification) and row.verification != ("traversal" if is_tree(row) else "token"):
        name += f", {row.verification}"
    if summary[summary.kind == "speed"].prompt_tokens.nunique() > 1 and row.prompt_tokens > 1000:
        name += f" ({row.prompt_tokens:.0f})"
    return name


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
