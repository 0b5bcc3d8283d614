"""`specpress compare`: which figures of two studies moved beyond their intervals."""

import argparse
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from specpress.provenance.archive import Stored, open_results
from specpress.provenance.explain import value_line
from specpress.provenance.numbers import Number, read_numbers

PLOTTED = 60  # rows of the figure, at most: those that moved furthest


@dataclass(frozen=True)
class Pair:
    """The same number in two studies."""

    first: Number
    second: Number

    @property
    def name(self) -> str:
        """Its name."""
        return self.first.name

    @property
    def kind(self) -> str:
        """The kind of its experiment."""
        return self.first.row["kind"]

    @property
    def ratio(self) -> float | None:
        """Second over first; None where it is undefined."""
        first, second = (number.row.get("estimate") for number in (self.first, self.second))
        return second / first if first and second is not None else None

    @property
    def judged(self) -> bool:
        """Whether both have an interval."""
        return self.first.interval is not None and self.second.interval is not None

    @property
    def moved(self) -> bool:
        """Whether their intervals have no point in common."""
        if not self.judged:
            return False
        (low, high), (other_low, other_high) = self.first.interval, self.second.interval
        return high < other_low or other_high < low


@dataclass(frozen=True)
class Comparison:
    """Two studies, number by number."""

    pairs: list[Pair]
    only_first: list[Number]
    only_second: list[Number]

    @property
    def moved(self) -> list[Pair]:
        """The pairs whose intervals are disjoint, by kind."""
        return sorted((pair for pair in self.pairs if pair.moved), key=lambda pair: pair.kind)


def compare(first: dict[str, Number], second: dict[str, Number]) -> Comparison:
    """Pair the measured numbers of two studies by name."""
    first, second = ({n: x for n, x in numbers.items() if "estimate" in x.row} for numbers in (first, second))
    return Comparison(
        pairs=[Pair(first[name], second[name]) for name in first if name in second],
        only_first=[number for name, number in first.items() if name not in second],
        only_second=[number for name, number in second.items() if name not in first],
    )


def report(comparison: Comparison) -> Iterator[str]:
    """The lines to print: what moved, what only one study has, and how many did not move or could not be judged."""
    moved = comparison.moved
    judged = sum(pair.judged for pair in comparison.pairs)
    yield f"{len(moved)} of {judged} figures moved: their 95% intervals in A and B have no point in common."
    unjudged = len(comparison.pairs) - judged
    if unjudged:
        yield f"{unjudged} more are in both without an interval on each side, and are not judged."
    width = max((len(pair.name) for pair in moved), default=0)
    columns = [max((len(value_line(side)) for pair in moved for side in (pair.first, pair.second)), default=0)] * 2
    for kind, pairs in groupby(moved, key=lambda pair: pair.kind):
        yield ""
        yield f"{kind:{width + 2}}  {'A':{columns[0]}}  {'B':{columns[1]}}  B/A"
        for pair in pairs:
            ratio = "" if pair.ratio is None else f"{pair.ratio:.3g}"
            first, second = value_line(pair.first), value_line(pair.second)
            yield f"  {pair.name:{width}}  {first:{columns[0]}}  {second:{columns[1]}}  {ratio}".rstrip()
    for label, numbers in (("A", comparison.only_first), ("B", comparison.only_second)):
        yield from _only(label, numbers)


def _only(label: str, numbers: Iterable[Number]) -> Iterator[str]:
    """What is measured in one study alone: a line an experiment."""
    by_experiment: dict[str, list[str]] = {}
    for number in numbers:
        key, _, metric = number.name.rpartition("/")
        by_experiment.setdefault(key, []).append(metric)
    if by_experiment:
        yield ""
        yield f"only in {label}"
    for key, metrics in by_experiment.items():
        yield f"  {key}: {', '.join(metrics[:4])}" + (f" and {len(metrics) - 4} more" if len(metrics) > 4 else "")


def described(stored: Stored) -> str:
    """One line about a study: where it is, and the machine, versions and commit its numbers come from."""
    common = stored.mapping("analysis/environment.json", "common")["common"]
    keys = ("cpu", "accelerator", "threads", "python", "packages.torch", "packages.transformers", "commit")
    parts = [f"{key.removeprefix('packages.')} {common[key]}" for key in keys if common.get(key)]
    return f"{stored.label} (study {stored.study}; {', '.join(parts)})"


def draw(comparison: Comparison, output: str | Path, labels: tuple[str, str]) -> None:
    """Draw what moved: B relative to A, each with its interval, as PNG, SVG or PDF by the name of the file.

    Raises
    ------
    ValueError
        If Matplotlib writes no such format.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    plt.switch_backend("agg")
    known = plt.figure().canvas.get_supported_filetypes()
    if Path(output).suffix[1:] not in known:
        raise ValueError(f"{output}: the figure can be {', '.join(sorted(known))}, by the end of its name")
    moved = [pair for pair in comparison.moved if pair.ratio and pair.ratio > 0]
    shown = sorted(moved, key=lambda pair: abs(math.log(pair.ratio)), reverse=True)[:PLOTTED][::-1]
    with plt.rc_context({"font.size": 8, "svg.fonttype": "none", "svg.hashsalt": "specpress"}):
        figure, axes = plt.subplots(figsize=(7, 1.2 + 0.2 * max(len(shown), 3)), layout="constrained")
        for side, (marker, shift) in enumerate((("o", 0.12), ("D", -0.12))):
            for place, pair in enumerate(shown):
                number = (pair.first, pair.second)[side]
                _interval(axes, number, pair.first.row["estimate"], place + shift, marker, f"C{side}")
            axes.plot([], [], marker, color=f"C{side}", markersize=4, label="AB"[side] + ": " + labels[side])
        axes.axvline(1, color="0.6", linewidth=0.8, zorder=0)
        axes.set(xscale="log", xlabel="value relative to A, with 95% intervals", ylim=(-0.7, max(len(shown), 1) - 0.3))
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(MaxNLocator(6) if high < 10 * low else LogLocator())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_yticks(range(len(shown)), [pair.name for pair in shown])
        left_out = len(comparison.moved) - len(shown)
        title = (
            f"{len(comparison.moved)} figures moved beyond their intervals" if comparison.moved else "No figure moved"
        )
        axes.set_title(title + (f"; {left_out} not shown" if left_out else ""), loc="left")
        figure.legend(loc="outside lower center", frameon=False)
        dates = {"pdf": "CreationDate", "svg": "Date"}.get(Path(output).suffix[1:])
        figure.savefig(output, dpi=150, metadata={dates: None} if dates else None)
    plt.close("all")


def _interval(axes, number: Number, unit: float, place: float, marker: str, color: str) -> None:
    """One value with its interval, in units of `unit`, at height `place`."""
    low, high = (end / unit for end in number.interval)
    axes.plot([low, high], [place, place], color=color, linewidth=1.2)
    axes.plot([number.row["estimate"] / unit], [place], marker, color=color, markersize=4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    for name in ("a", "b"):
        parser.add_argument(name, metavar=name.upper(), help="results/<study>, or an archive that make archive wrote")
    parser.add_argument("--plot", metavar="FILE", help="draw what moved: .svg, .pdf or .png")


def run(args: argparse.Namespace) -> int:
    """Compare two studies: print what moved, and draw it if asked to."""
    first, second = open_results(args.a), open_results(args.b)
    comparison = compare(read_numbers(first), read_numbers(second))
    print(f"A  {described(first)}\nB  {described(second)}\n")
    print("\n".join(report(comparison)))
    if args.plot:
        draw(comparison, args.plot, (first.label, second.label))
    return 0
