"""What the figures share: command line, look of a series, direct labels, and files that reproduce byte for byte.

A series is told apart by marker and line style as well as by colour (seaborn's colour-blind palette), so that a figure
survives a grey printer.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text

from specpress.analysis.tables import read_table
from specpress.files.program import run_program
from specpress.paper.typesetting.glyphs import families_for

PALETTE = [sns.color_palette("colorblind").as_hex()[i] for i in (0, 3, 2, 4, 7, 1, 5)]  # the darker ones first
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


@dataclass(frozen=True)
class Look:
    """Colour, marker and line style of one series."""

    color: str
    marker: str
    linestyle: str | tuple


def looks(names: Iterable) -> dict[object, Look]:
    """One look a name, by the order in which they first appear."""
    names = list(dict.fromkeys(names))
    return {name: _look(i) for i, name in enumerate(names)}


def _look(i: int) -> Look:
    """The first have colour, marker and line of one place; each round after them pairs them anew."""
    place, turn = i % len(PALETTE), i // len(PALETTE)
    return Look(PALETTE[place], MARKERS[(place + turn) % len(MARKERS)], LINES[(place + 2 * turn) % len(LINES)])


def figure_command(description: str, table: str, draw: Callable[[pd.DataFrame], Figure]) -> None:
    """The program of a figure: read one table, draw it in the paper's style, write a PDF and an SVG; ends the process.

    Parameters
    ----------
    description : str
        Shown by --help.
    table : str
        "summary" or "observations": the name of the option that takes the CSV.
    draw : callable
        From the table to the figure.
    """
    sys.exit(run_program(lambda: _figure(description, table, draw)))


def _figure(description: str, table: str, draw: Callable[[pd.DataFrame], Figure]) -> None:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(f"--{table}", dest="table", required=True, metavar="CSV", help=f"the {table} table")
    parser.add_argument("--style", required=True, metavar="MPLSTYLE", help="matplotlib style sheet")
    parser.add_argument("--output-pdf", required=True, metavar="PDF")
    parser.add_argument("--output-svg", required=True, metavar="SVG")
    arguments = parser.parse_args()
    plt.switch_backend("agg")
    table = read_table(arguments.table)
    with plt.style.context(["default", arguments.style, fonts_for(table)]):
        save(draw(table), arguments.output_pdf, arguments.output_svg)


def fonts_for(table: pd.DataFrame) -> dict:
    """Settings of Matplotlib by which the characters of a table's texts that its own font lacks are drawn too."""
    texts = "".join(str(value) for name in table.select_dtypes("object") for value in table[name].unique())
    families = ["DejaVu Sans", *families_for(texts)]
    return {"font.family": list(dict.fromkeys(families))} if len(set(families)) > 1 else {}


def save(figure: Figure, pdf: str | Path, svg: str | Path) -> None:
    """Write the figure without dates or random identifiers: the same figure gives the same bytes.

    Tokens may be of any characters; those that no SVG can hold stand there as U+FFFD.
    """
    for text in figure.findobj(Text):
        if NOT_IN_XML.search(text.get_text()):
            text.set_text(NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text.get_text()))
    for path, metadata in ((pdf, {"CreationDate": None}), (svg, {"Date": None})):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with plt.rc_context({"svg.hashsalt": "specpress"}):
            figure.savefig(path, format=Path(path).suffix[1:], metadata=metadata)
    plt.close(figure)


def panels(count: int, **options) -> tuple[Figure, list[Axes]]:
    """A row of `count` panels that share the vertical axis unless told otherwise; a lone one is half as wide."""
    if count == 1:
        options = {"figsize": (3.8, 2.1)} | options
    figure, axes = plt.subplots(1, count, squeeze=False, **({"sharey": True} | options))
    return figure, list(axes[0])


def empty_sheet(message: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure, axes = plt.subplots(figsize=(3, 1))
    axes.set_axis_off()
    axes.text(0.5, 0.5, message, ha="center", va="center", wrap=True)
    return figure


def draw_series(axes: Axes, rows: pd.DataFrame, x: str, look: Look, *, shift: float = 0.0, filled: bool = True) -> None:
    """Estimates joined by a line, with their intervals where there are any.

    `rows` has the columns `x`, estimate, low and high; a row without an estimate is skipped. Of several rows at one x
    each is drawn: a mean of them nobody has measured. `shift` moves the points
    sideways, in units of x, so that intervals at the same place stay apart; `filled=False` leaves the markers hollow.
    """
    rows = rows[rows["estimate"].notna()].sort_values(x)
    rows = rows.assign(**{x: rows[x].astype(float) + shift})
    look_of_line = {"color": look.color, "marker": look.marker, "linestyle": look.linestyle}
    look_of_marker = {"markerfacecolor": look.color if filled else "white", "markeredgecolor": look.color}
    names = (axes.get_xlabel(), axes.get_ylabel())
    sns.lineplot(rows, x=x, y="estimate", ax=axes, estimator=None, zorder=3, **look_of_line, **look_of_marker)
    axes.set(xlabel=names[0], ylabel=names[1])
    ends = np.vstack([rows["estimate"] - rows["low"], rows["high"] - rows["estimate"]]).astype(float)
    axes.errorbar(rows[x], rows["estimate"], yerr=np.nan_to_num(ends), fmt="none", ecolor=look.color, elinewidth=0.8)


def cut_intervals(axes: Axes, *, low: float | None = None, high: float | None = None, along: str = "y") -> None:
    """End an axis at `low` and `high` where an interval goes further, and put an arrow there in place of its end.

    Parameters
    ----------
    low, high : float, optional
        In data units; None, or no interval beyond it: that end of the axis stays as it is.
    along : {"x", "y"}
        The axis along which the intervals lie.
    """
    side = "xy".index(along)
    found = [container for container in axes.containers if isinstance(container, ErrorbarContainer)]
    bars = [lines for container in found for lines in container[2]]
    segments = [(ends, lines.get_color()[0]) for lines in bars for ends in lines.get_segments() if len(ends)]
    segments = [(ends, color) for ends, color in segments if ends[0][1 - side] == ends[-1][1 - side]]
    limits = list(getattr(axes, f"get_{along}lim")())
    for end, bound in enumerate((low, high)):
        sign = (-1, 1)[end]
        for ends, color in segments:
            if bound is not None and (sign * ends[:, side]).max() > sign * bound:
                place = [bound if i == side else ends[0][i] for i in (0, 1)]
                arrow = {"x": "<>", "y": "v^"}[along][end]
                axes.plot(*place, marker=arrow, color=color, markersize=2.5, linestyle="none", clip_on=False, zorder=4)
                limits[end] = bound
    getattr(axes, f"set_{along}lim")(*limits)


def label_line_ends(axes: Axes, labels: list[tuple[float, float, str, str]], *, gap: float = 0.09) -> None:
    """Write a label beside the right end of each line, moved apart vertically where two would collide.

    Parameters
    ----------
    labels : list of (x, y, text, color)
        Where each line ends, in data units.
    gap : float
        Least distance between two labels, as a fraction of the axis.
    """
    low, high = axes.get_ylim()
    place = -np.inf
    for x, y, text, color in sorted(labels, key=lambda label: label[1]):
        place = max(y, place + gap * (high - low))
        axes.annotate(
            text, (x, place), xytext=(6, 0), textcoords="offset points", color=color, va="center", fontsize=7,
            annotation_clip=False, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip
