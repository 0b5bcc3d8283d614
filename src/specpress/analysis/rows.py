"""Rows of the summary: an estimate, its interval and where it comes from, or the reason why there is none."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from specpress.analysis.statistics import Estimate, geometric_mean_interval, mean_interval, paired_ratio

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


def row(metric: str, unit: str, estimate: Estimate | None, note: str, field: str) -> dict:
    """A row for an estimate with its interval; without an estimate, `note` says why."""
    shared = {"metric": metric, "unit": unit, "field": field}
    if estimate is None:
        return shared | {"note": note}
    notes = "; ".join(part for part in (note, estimate.note) if part)
    return shared | {
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


def paired_row(metric: str, above: Iterable, below: Iterable, why: str, field: str, unit: str) -> dict:
    """The geometric mean of above / below over the units (say repeats) that have both, with its interval."""
    above, below = list(above or ()), list(below or ())
    pairs = [(a, b) for a, b in zip(numbers(above), numbers(below), strict=False) if a and b and a > 0 and b > 0]
    ratios = list(paired_ratio(*zip(*pairs, strict=True))) if pairs else []
    return row(metric, "x", *over_units(ratios, geometric_mean_interval, max(len(above), len(pairs)), why, unit), field)


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


def places(runs: Iterable[Mapping]) -> list[tuple]:
    """The distinct prompts of some runs, in order."""
    return list(dict.fromkeys(place(run) for run in runs))


def run_row(figures: list[tuple[tuple, Mapping]], metric: str, field: str) -> dict:
    """The mean of one metric of runs, given as (place, figures): over repeats of a prompt, then over prompts."""
    unit, on_log_scale = RUN_METRICS[metric]
    transform, interval = (np.log, geometric_mean_interval) if on_log_scale else (float, mean_interval)
    by_prompt = defaultdict(list)
    for where, run in figures:
        value = number(run.get(metric))
        if value is not None and (value > 0 or not on_log_scale):
            by_prompt[where].append(transform(value))
    values = {where: float(np.mean(found)) for where, found in by_prompt.items()}
    # The reason that a run gives is for the time it lacks.
    given = next((run["why"] for _, run in figures if run.get(metric) is None and run.get("why")), "undefined")
    why = "nothing was drafted" if metric == "acceptance_rate" else given
    prompts = len(dict.fromkeys(where for where, _ in figures))
    return row(metric, unit, *over_units(values, interval, prompts, why), field)


def log_ratios(runs: Iterable[tuple[tuple, Mapping, Mapping]]) -> dict[tuple, float]:
    """Log of time per token, first over second, of each prompt: the mean over its repeats; undefined ones left out."""
    by_prompt = defaultdict(list)
    for where, first, second in runs:
        if tpot_ratio(first, second) is not None:
            by_prompt[where].append((first["tpot_ms"], second["tpot_ms"]))
    return {where: float(paired_ratio(*np.array(times).T[:, None, :])[0]) for where, times in by_prompt.items()}


def tpot_ratio(first: Mapping, second: Mapping) -> float | None:
    """Time per token of the first run over that of the second; None where either has none."""
    above, below = number(first.get("tpot_ms")), number(second.get("tpot_ms"))
    return above / below if above and below and above > 0 and below > 0 else None


def why_no_time(runs: Iterable[Mapping]) -> str:
    """Why a time per token is missing, in the words of the first run that misses it."""
    return next((run["why"] for run in runs if run.get("tpot_ms") is None and run.get("why")), "fewer than two tokens")
