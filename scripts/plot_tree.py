"""Draw one tree of drafted tokens, and what the target kept of it."""

from collections.abc import Mapping
from itertools import count

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from specpress.paper.plotting import PALETTE, empty_sheet, figure_command, panels

SHOWN = 12  # characters of the context
SIZE = 6.2  # of the text, in points
GAP = 9.0  # points between a token and those that follow it
WIDTH = 3.2 * 72  # points: half of the text's width
MARGIN = 3.0  # points
NEXT = 10**6  # in place of a node: the token that the target added
CUT = "…"  # in place of the tokens for which there is no room


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
        texts[NEXT], above[NEXT] = f"then {shown(after.token.iloc[0])}", max(chosen, default=-1)
    figure, (axis,) = panels(1, figsize=(WIDTH / 72, 1))
    widths = {text: width_of(text, figure) for text in {*texts.values(), CUT}}
    above, texts = fitted(above, texts, widths)
    places = layout(above, {node: widths[text] for node, text in texts.items()})
    rows = max(y for _, y in places.values()) + 1
    figure.set_size_inches(WIDTH / 72, 0.1 + 0.2 * rows)
    figure.set_layout_engine("none")
    axis.set_position((0, 0, 1, 1))
    axis.set(xlim=(-MARGIN, WIDTH - MARGIN), ylim=(rows - 0.4, -0.6))  # so that a unit to the right is a point
    axis.set_axis_off()
    for node, (x, y) in places.items():
        kept = node in chosen
        if node in above:
            from_x, from_y = places[above[node]]
            line = {"color": PALETTE[0] if kept else "0.7", "linewidth": 1.2 if kept else 0.6}
            axis.plot([from_x + widths[texts[above[node]]], x], [from_y, y], zorder=1, **line)
        box = {"boxstyle": "round,pad=0.2", "facecolor": PALETTE[0] if kept else "white", "linewidth": 0.5}
        bare = node == NEXT or texts[node] == CUT
        box["edgecolor"] = PALETTE[0] if kept else "none" if bare else "0.5"
        look = {"color": "white" if kept else "black", "fontstyle": "italic" if node == NEXT else None}
        middle = x + widths[texts[node]] / 2
        axis.text(middle, y, texts[node], ha="center", va="center", bbox=box, zorder=2, fontsize=SIZE, **look)
    return figure


def of_experiment(observations: pd.DataFrame, name: str) -> tuple[dict[int, int], set[int]]:
    """The parent of each node of an experiment's tree, and the nodes that were kept."""
    rows = observations[observations.experiment == name].sort_values("iteration")
    parents, kept = rows[rows.metric == "tree_parent"], rows[(rows.metric == "tree_kept") & (rows.value == 1)]
    return dict(zip(parents.iteration.astype(int), parents.value.astype(int), strict=True)), set(
        kept.iteration.astype(int)
    )


def merit(tree: tuple[dict[int, int], set[int]]) -> tuple[bool, bool, int]:
    """Whether another than the first child was kept, whether the tree branches, how many were kept; in this order."""
    above, kept = tree
    parents = list(above.values())
    return any(above[node] in parents[:node] for node in kept), len(set(parents)) < len(parents), len(kept)


def width_of(text: str, figure: Figure) -> float:
    """How wide a text is, in points."""
    width, _, _ = figure.canvas.get_renderer().get_text_width_height_descent(text, FontProperties(size=SIZE), False)
    return width * 72 / figure.dpi


def fitted(
    above: Mapping[int, int], texts: Mapping[int, str], widths: Mapping[str, float]
) -> tuple[dict[int, int], dict[int, str]]:
    """The parents and texts of the nodes for which there is room; what goes on behind one is a single `CUT`.

    A node is kept only if there is room for a `CUT` behind it too, unless nothing follows it.
    """
    places = layout(above, {node: widths[text] for node, text in texts.items()})
    room = WIDTH - 2 * MARGIN
    ends = {node: x + widths[texts[node]] for node, (x, _) in places.items()}
    behind = GAP + widths[CUT]
    inside = {-1}
    for node in above:
        follows = behind if node in above.values() else 0
        if above[node] in inside and ends[node] + follows <= room:
            inside.add(node)
    new_above, new_texts, cut = {}, {-1: texts[-1]}, set()
    for node, parent in above.items():
        if parent in inside and (node in inside or parent not in cut):
            new_above[node], new_texts[node] = parent, texts[node] if node in inside else CUT
            cut |= set() if node in inside else {parent}
    return new_above, new_texts


def layout(above: Mapping[int, int], widths: Mapping[int, float]) -> dict[int, tuple[float, float]]:
    """A place for each node by its parent: (points from the left to its text, row), parents left of their children.

    Each leaf has a row of its own, a parent that of its first child.
    """
    children: dict[int, list[int]] = {}
    for node, parent in above.items():
        children.setdefault(parent, []).append(node)
    places: dict[int, tuple[float, float]] = {}
    rows = count()

    def place(node: int, left: float) -> float:
        found = [place(child, left + widths[node] + GAP) for child in children.get(node, ())]
        places[node] = (left, found[0] if found else next(rows))
        return places[node][1]

    place(-1, 0)
    return places


def shown(token: str) -> str:
    """A token as one can see it: its spaces as dots, its line breaks as arrows."""
    return str(token).replace("\n", "↵").replace(" ", "·")


if __name__ == "__main__":
    figure_command(__doc__, "observations", draw)
