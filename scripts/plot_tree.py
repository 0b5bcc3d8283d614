"""Draw one tree of drafted tokens, and what the target kept of it."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specpress.paper.plotting import PALETTE, empty_sheet, figure_command, panels

SHOWN = 24  # characters of the context


def draw(observations: pd.DataFrame) -> Figure:
    """The example tree of which most was kept: depth from left to right, what was kept filled, the next token last."""
    parents = observations[observations.metric == "tree_parent"]
    if parents.empty:
        return empty_sheet("This study has no trees.")
    kept = observations[observations.metric == "tree_kept"]
    name = kept.groupby("experiment", sort=False).value.sum().idxmax()
    nodes = parents[parents.experiment == name].set_index("iteration").sort_index()
    chosen = set(kept[(kept.experiment == name) & (kept.value == 1)].iteration)
    above = {int(node): int(parent) for node, parent in nodes.value.items()}
    places = layout(above)
    rows, depth = max(y for _, y in places.values()) + 1, max(x for x, _ in places.values())
    figure, (axis,) = panels(1, figsize=(3.2, 0.5 + 0.22 * rows))
    axis.set(xlim=(-0.2, depth + 1.6), ylim=(rows - 0.4, -0.6))
    axis.set_axis_off()
    for node, parent in above.items():
        (x, y), (from_x, from_y) = places[node], places[parent]
        line = {"color": PALETTE[0] if node in chosen else "0.7", "linewidth": 1.4 if node in chosen else 0.6}
        axis.plot([from_x, x], [from_y, y], zorder=1, **line)
        write(axis, (x, y), nodes.token[node], filled=node in chosen)
    write(axis, places[-1], f"…{nodes.document.iloc[0][-SHOWN:]}", filled=False, align="right")
    after = observations[(observations.metric == "tree_next") & (observations.experiment == name)]
    if len(after):
        last = max(chosen, key=lambda node: places[node][0])
        x, y = places[last]
        write(axis, (x + 0.45, y - 0.45), f"then {shown(after.token.iloc[0])}", filled=False, border=False)
    return figure


def layout(above: Mapping[int, int]) -> dict[int, tuple[float, float]]:
    """A place for each node, (depth, row), by its parent: each leaf has a row, a parent that of its first child."""
    children: dict[int, list[int]] = {}
    for node, parent in above.items():
        children.setdefault(parent, []).append(node)
    places: dict[int, tuple[float, float]] = {}
    rows = iter(range(len(above) + 1))

    def place(node: int, depth: int) -> float:
        found = [place(child, depth + 1) for child in children.get(node, ())]
        places[node] = (depth, found[0] if found else next(rows))
        return places[node][1]

    place(-1, 0)
    return places


def write(axis: Axes, place: tuple[float, float], text: str, *, filled: bool, border=True, align="center") -> None:
    """A token in its box."""
    box = {"boxstyle": "round,pad=0.2", "facecolor": PALETTE[0] if filled else "white", "linewidth": 0.5}
    box["edgecolor"] = ("0.5" if border else "none") if not filled else PALETTE[0]
    color = "white" if filled else "black"
    axis.text(
        *place, shown(text), ha=align, va="center", fontsize=6.2, color=color, bbox=box, zorder=2, parse_math=False
    )


def shown(token: str) -> str:
    """A token as one can see it: its spaces as dots, its line breaks as arrows."""
    return str(token).replace("\n", "↵").replace(" ", "·")


if __name__ == "__main__":
    figure_command(__doc__, "observations", draw)
