"""What the machine did beside the measuring, and what it put in doubt, in the words of the results."""

import pandas as pd

from specpress.paper.cells import Cell
from specpress.paper.prose import counted

_TO_BLAME = 0.5  # the machine's share of the variance above which a lack of precision is its doing
# From what of each kind a job counts as disturbed: cores, waits as a share of its seconds, a share of its steps.
_DISTURBED = {"other_cores": 0.1, "steal_cores": 0.1, "core_waits": 0.1, "disturbed_steps": 0.5}
_TIMED = ("speed", "chain", "regime")


def disturbance(summary: pd.DataFrame) -> dict[str, tuple[Cell, Cell]]:
    """Of the timed experiments the middle and the largest value of each kind of disturbance that was recorded."""
    found = {}
    for metric in ("other_cores", "disturbed_steps"):
        rows = summary[(summary.metric == metric) & summary.kind.isin(_TIMED) & summary.estimate.notna()]
        if len(rows):
            ranked = [Cell.of(row) for row in rows.sort_values("estimate").to_dict("records")]
            found[metric] = ranked[(len(ranked) - 1) // 2], ranked[-1]
    return found


def imprecise(summary: pd.DataFrame) -> tuple[int, int]:
    """How many experiments the machine kept from the precision asked for, and how many asked for one.

    The machine is to blame where it was disturbed while the experiment ran, and its costs, not the text, make up most
    of the variance. A budget that was too small for the precision is no fault of the machine.
    """
    by_metric = summary[summary.metric.isin(("half_width", "precision"))].drop_duplicates(["experiment", "metric"])
    widths = by_metric.pivot(index="experiment", columns="metric", values="estimate")
    widths = widths.reindex(columns=["half_width", "precision"]).dropna()
    shares = summary[summary.metric.isin(("speedup", "factor_anchor"))].groupby("experiment").machine_share.max()
    blamed = (shares.reindex(widths.index) > _TO_BLAME) & widths.index.isin(_disturbed(summary))
    return int(((widths.half_width > widths.precision) & blamed).sum()), len(widths)


def _disturbed(summary: pd.DataFrame) -> set[str]:
    """The experiments during which the machine was seen to do something else, or its steps to take far too long."""
    rows = summary[summary.metric.isin(_DISTURBED)]
    return set(rows[rows.estimate > rows.metric.map(_DISTURBED)].experiment)


def doubts(summary: pd.DataFrame, controls: list[Cell]) -> str:
    """A sentence on what the machine puts in doubt; nothing where it does not.

    controls : the speed-ups of the baseline over itself
    """
    missed = sum(cell.side() in ("above", "below") for cell in controls)
    short, asked = imprecise(summary)
    parts = []
    if missed:
        which = (
            "the interval of the control"
            if len(controls) == 1
            else f"the interval of {missed} of {len(controls)} controls"
        )
        parts.append(f"{which}, the baseline timed against itself, does not contain one")
    if short:
        of = counted(asked, "experiment")
        parts.append(f"{short} of {of} did not reach the precision asked for because of it")
    return f"The machine was too disturbed for what was asked of it: {', and '.join(parts)}." if parts else ""
