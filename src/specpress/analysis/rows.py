"""Rows of the summary: an estimate, its interval and where it comes from, or the reason why there is none."""

import math
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean

import numpy as np

from specpress.analysis.statistics import geometric_mean_interval, mean_interval
from specpress.theory.intervals import Estimate

# What a run yields: unit, and whether units are averaged on the log scale. Times and rates are, so that the ratio of
# two means is the mean of the ratios.
RUN_METRICS = {
    "tokens_per_s": ("tokens/s", True),
    "ttft_s": ("s", True),
    "tpot_ms": ("ms", True),
    "acceptance_rate": ("", False),
    "tokens_per_iteration": ("tokens", False),
    "kv_bytes": ("bytes", False),
    "n_tokens": ("tokens", False),
}
_TIMES = frozenset({"tokens_per_s", "ttft_s", "tpot_ms"})


def row(metric: str, unit: str, estimate: Estimate | None, note: str, field: str) -> dict:
    """A row for an estimate with its interval; without an estimate, `note` says why."""
    shared = {"metric": metric, "unit": unit, "field": field}
    if estimate is None:
        return shared | {"note": note}
    notes = "; ".join(part for part in (note, estimate.note) if part)
    error = "log_error" if estimate.on_log_scale else "error"
    spread = {error: estimate.se, "freedom": estimate.df, "skew": estimate.skew}
    return shared | spread | {
        "estimate": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n, "note": notes,
    }  # fmt: skip


def single(metric: str, unit: str, value, field: str, why: str) -> dict:
    """A row for a number that was measured once, without an interval."""
    found = number(value)
    return {"metric": metric, "unit": unit, "estimate": found, "field": field, "note": "" if found is not None else why}


def number(value) -> float | None:
    """The value as a finite float; None for what is not measured."""
    return float(value) if value is not None and math.isfinite(value) else None


def numbers(values: Iterable | None) -> list[float | None]:
    """Each value as a finite float or None; nothing for nothing."""
    return [number(value) for value in values or ()]


def over_units(
    values: Mapping | list, interval: Callable, of: int, why: str, unit: str = "prompts"
) -> tuple[Estimate | None, str]:
    """The estimate over the units that have a value, and a note when some have none."""
    values = list(values.values()) if isinstance(values, Mapping) else values
    if not values:
        return None, why
    note = "" if len(values) == of else f"{of - len(values)} of {of} {unit} without a value: {why}"
    return interval(values), note


def mean_row(
    metric: str, unit: str, values: Iterable | None, why: str, field: str, units: str, *, on_log_scale: bool = False
) -> dict:
    """The mean of a quantity over the units that have one: geometric for times and rates, else arithmetic."""
    found = numbers(values)
    kept = [value for value in found if value is not None and (value > 0 or not on_log_scale)]
    if on_log_scale:
        kept = list(np.log(kept))
    interval = geometric_mean_interval if on_log_scale else mean_interval
    return row(metric, unit, *over_units(kept, interval, len(found), why, units), field)


def place(run: Mapping) -> tuple:
    """Where the prompt of a run stands: the unit that is resampled."""
    return (run["document"], run["offset"])


def method_row(runs: list[Mapping], metric: str, field: str) -> dict:
    """The mean of one metric of a method over its runs; a time over those that were not counted in a batch."""
    measured = [run for run in runs if metric not in _TIMES or run.get("together", 1) == 1]
    return run_row([(place(run), run["method"]) for run in measured], metric, field)


def run_row(figures: list[tuple[tuple, Mapping]], metric: str, field: str) -> dict:
    """The mean of one metric over runs, given as (place, figures): over prompts, each the mean of its turns."""
    unit, on_log_scale = RUN_METRICS[metric]
    transform, interval = (np.log, geometric_mean_interval) if on_log_scale else (float, mean_interval)
    found: dict[tuple, list[float]] = {where: [] for where, _ in figures}
    for where, run in figures:
        value = number(run.get(metric))
        if value is not None and (value > 0 or not on_log_scale):
            found[where].append(float(transform(value)))
    values = {where: fmean(turns) for where, turns in found.items() if turns}
    # The reason that a run gives is for the time it lacks.
    given = next((run["why"] for _, run in figures if run.get(metric) is None and run.get("why")), "undefined")
    why = "nothing was drafted" if metric == "acceptance_rate" else given
    return row(metric, unit, *over_units(values, interval, len(found), why), field)
