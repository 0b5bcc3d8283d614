"""Draw the tokens that an iteration of the target commits, by drafter, for each way of sampling."""

from textwrap import fill

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from specpress.analysis.kinds import LOSSLESS, of_kinds
from specpress.paper.plotting import PALETTE, cut_intervals, empty_sheet, figure_command, panels
from specpress.paper.wording import drafter_name, is_tree, sampling_name, schedule_name, tree_size

LONG = 1000  # tokens of a prompt from which it is named


def draw(summary: pd.DataFrame) -> Figure:
    """One row a drafter, at the draft length most of them share; filled and hollow tell the samplings apart."""
    rows = accepted(summary)
    if rows.empty:
        return empty_sheet("This study has no experiment with a drafter.")
    names = rows.groupby("name").estimate.max().sort_values().index
    samplings = list(dict.fromkeys(rows.sort_values("temperature", ascending=False).sampling))
    labels = [label(rows[rows.name == name], samplings) for name in names]
    lines = [1.3 + text.count("\n") for text in labels]
    places = {name: sum(lines[:i]) + lines[i] / 2 for i, name in enumerate(names)}
    figure, (axis,) = panels(1, figsize=(3.2, 0.7 + 0.105 * sum(lines)))
    axis.axvline(1, color="black", linewidth=0.8)
    for position, sampling in enumerate(samplings):
        series = rows[rows.sampling == sampling]
        y = series.name.map(places) + 0.45 * (position - (len(samplings) - 1) / 2)
        ends = [
            series.estimate - series.low.fillna(series.estimate),
            series.high.fillna(series.estimate) - series.estimate,
        ]
        face = PALETTE[position % len(PALETTE)] if position == 0 else "white"
        axis.errorbar(
            series.estimate, y, xerr=ends, fmt="os^D"[position % 4], color=PALETTE[position % len(PALETTE)],
            markerfacecolor=face, elinewidth=0.8, linestyle="none",
        )  # fmt: skip
    cut_intervals(axis, high=1.4 * rows.estimate.max(), along="x")
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
    """Tokens per iteration of each lossless drafter, once a sampling, at the most common constant length it has.

    Other schedules, other verification and long prompts stand for a drafter only where it has nothing else.
    """
    rows = summary[(summary.kind == "speed") & (summary.metric == "tokens_per_iteration") & summary.estimate.notna()]
    rows = of_kinds(rows, LOSSLESS)
    if rows.empty:
        return rows
    each = [row for _, row in rows.iterrows()]
    common = rows.gamma.groupby([is_tree(row) for row in each]).transform(lambda gamma: gamma.mode().min())
    distance = (rows.gamma - common).astype(float).abs().fillna(0)
    rows = rows.assign(
        name=[name_of(row, summary) for row in each],
        drafts=[drafter_name(row) for row in each],
        varied=[pd.isna(row.gamma) or is_verified_otherwise(row) for row in each],
        distance=distance,
    )
    best = rows.groupby("drafts")[["varied", "prompt_tokens"]].transform("min")
    rows = rows[
        (rows.varied == best.varied) & ((rows.prompt_tokens == best.prompt_tokens) | (rows.prompt_tokens <= LONG))
    ]
    return rows.sort_values("distance", kind="stable").drop_duplicates(["name", "sampling"])


def label(rows: pd.DataFrame, samplings: list[str]) -> str:
    """What the axis calls the rows of one drafter: with its draft lengths, in the samplings' order if they differ."""
    rows = rows.sort_values("sampling", key=lambda column: column.map(samplings.index))
    name, gammas = rows.name.iloc[0], list(rows.gamma.dropna().astype(int).unique())
    if gammas:
        tree = is_tree(rows.iloc[0])
        size = "/".join(map(str, gammas))
        name += f", {size} node{'' if gammas == [1] else 's'}" if tree else f", γ\u00a0=\u00a0{size}"
    return fill(name, 36)


def is_verified_otherwise(row: pd.Series) -> bool:
    """Whether drafts are verified in another way than such drafts usually are."""
    return not pd.isna(row.verification) and row.verification != ("traversal" if is_tree(row) else "token")


def name_of(row: pd.Series, summary: pd.DataFrame) -> str:
    """Who drafts, with its schedule unless constant, its verification unless by token, and its context if they vary."""
    name = drafter_name(row)
    if pd.isna(row.gamma):
        name += f", {tree_size(row) if is_tree(row) else schedule_name(row).split(' from')[0]}"
    if is_verified_otherwise(row):
        name += f", {row.verification}"
    if summary[summary.kind == "speed"].prompt_tokens.nunique() > 1 and row.prompt_tokens > LONG:
        name += f" ({row.prompt_tokens:.0f})"
    return name


if __name__ == "__main__":
    figure_command(__doc__, "summary", draw)
