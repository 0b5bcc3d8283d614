"""Draw one tree of drafted tokens, and what the target kept of it."""

from collections.abc import Mapping
from itertools import count

import pandas as pd
from matplotlib.figure import Figure

from specpress.paper.plotting import PALETTE, empty_sheet, figure_command, panels

SHOWN = 12  # characters of the context
CHARACTERS = 58  # that fit beside each other at the usual size
GAP = 2.5  # characters between a token and those that follow it
NEXT = 10**6  # in place of a node: the token that the target added


def draw(observations: pd.DataFrame) -> Figure:
    """The example tree that shows most: from left to right, what was kept filled, the next token last."""
    parents = observations[observations.metric == "tree_parent"]
    if parents.empty:
        return empty_sheet("This study has no trees.")
    name = max(parents.experiment.unique(), key=lambda name: merit(of_experiment(observations, name)))
    nodes = parents[parents.experiment == name].set_index("iteration").sort_index()
    above, chosen = of_experiment(observations, name)
    texts = {-1: f"…{shown(nodes.document.iloc[0])[-SHOWN:]}"} | {node: shown(nodes.token[node]) for node in above}
    after = observations[(observations.metric == "tree_next") & (observations.experiment == name)]
    if len(after):
        last = max(chosen, default=-1)
        texts[NEXT], above[NEXT] = f"then {shown(after.token.iloc[0])}", last
    places = layout(above, texts)
    rows, width = max(y for _, y in places.values()) + 1, max(x + len(texts[node]) for node, (x, _) in places.items())
    figure, (axis,) = panels(1, figsize=(3.2, 0.3 + 0.2 * rows))
    axis.set(xlim=(-0.5, width + 0.5), ylim=(rows - 0.5, -0.5))
    axis.set_axis_off()
    size = 6.2 * min(1.0, CHARACTERS / width)
    for node, (x, y) in places.items():
        kept = node in chosen
        if node in above:
            from_x, from_y = places[above[node]]
            line = {"color": PALETTE[0] if kept else "0.7", "linewidth": 1.2 if kept else 0.6}
            axis.plot([from_x + len(texts[above[node]]), x], [from_y, y], zorder=1, **line)
        box = {"boxstyle": "round,pad=0.2", "facecolor": PALETTE[0] if kept else "white", "linewidth": 0.5}
        box["edgecolor"] = PALETTE[0] if kept else "none" if node == NEXT else "0.5"
        look = {
            "fontsize": size,
            "color": "white" if kept else "black",
            "fontstyle": "italic" if node == NEXT else None,
        }
        middle = x + len(texts[node]) / 2
        axis.text(middle, y, texts[node], ha="center", va="center", bbox=box, zorder=2, **look)
    return figure


def of_experiment(observations: pd.DataFrame, name: str) -> tuple[dict[int, int], set[int]]:
    """The parent of each node of an experiment's tree, and the nodes that were kept."""
    rows = observations[observations.experiment == name].sort_values("iteration")
    parents, kept = rows[rows.metric == "tree_parent"], rows[(rows.metric == "tree_kept") & (rows.value == 1)]
    return dict(zip(parents.iteration.astype(int), parents.value.astype(int), strict=True)), set(
        kept.iteration.astype(int)
    )


def merit(tree: tuple[dict[int, int], set[int]]) -> tuple[bool, int]:
    """What makes a tree worth showing: that another than the first child was kept, and that many were."""
    above, kept = tree
    parents = list(above.values())
    return any(above[node] in parents[:node] for node in kept), len(kept)


def layout(above: Mapping[int, int], texts: Mapping[int, str]) -> dict[int, tuple[float, float]]:
    """A place for each node by its parent: (characters from the left to its text, row), parents left of their children.

    Each leaf has a row of its own, a parent that of its first child.
    """
    children: dict[int, list[int]] = {}
    for node, parent in above.items():
        children.setdefault(parent, []).append(node)
    places: dict[int, tuple[float, float]] = {}
    rows = count()

    def place(node: int, left: float) -> float:
        found = [place(child, left + len(texts[node]) + GAP) for child in children.get(node, ())]
        places[node] = (left, found[0] if found else next(rows))
        return places[node][1]

    place(-1, 0)
    return places


def shown(token: str) -> str:
    """A token as one can see it: its spaces as dots, its line breaks as arrows."""
    return str(token).replace("\n", "↵").replace(" ", "·")


if __name__ == "__main__":
    figure_command(__doc__, "observations", draw)
