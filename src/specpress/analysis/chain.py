"""Rows of a chain: methods timed in turn on the same prompts, each a factor over the one before and over the first."""

from collections.abc import Iterable, Mapping

from specpress.analysis.rows import (
    RUN_METRICS,
    log_ratios,
    number,
    over_units,
    place,
    places,
    row,
    run_row,
    tpot_ratio,
    why_no_time,
)
from specpress.statistics import geometric_mean_interval

METRICS = ("tokens_per_s", "ttft_s", "tpot_ms", "acceptance_rate", "tokens_per_iteration", "kv_bytes")


def observations(item: Mapping) -> Iterable[dict]:
    """One row a run, step and metric, with the factor over the step before."""
    for run in item["runs"]:
        where = {key: run[key] for key in ("prompt", "repeat", "document", "offset")}
        for position, step in enumerate(item["steps"]):
            here = {**where, "step": step["name"]}
            figures = run["steps"][position]
            for metric in METRICS:
                yield {**here, "metric": metric, "unit": RUN_METRICS[metric][0], "value": number(figures.get(metric))}
            if position:
                value = tpot_ratio(run["steps"][position - 1], figures)
                yield {**here, "metric": "factor", "unit": "x", "value": value}


def summary(item: Mapping) -> Iterable[dict]:
    """The figures of each step, its factor over the step before (`factor`) and over the first (`factor_total`)."""
    runs = item["runs"]
    for position, step in enumerate(item["steps"]):
        setting = {"step": step["name"], "step_title": step.get("title", step["name"]), "step_number": position}
        figures = [(place(run), run["steps"][position]) for run in runs]
        for metric in METRICS:
            yield run_row(figures, metric, f"runs[*].steps[{position}].{metric}") | setting
        if position:
            yield _factor(runs, "factor", position - 1, position) | setting
            yield _factor(runs, "factor_total", 0, position) | setting


def _factor(runs: list[Mapping], metric: str, before: int, after: int) -> dict:
    """How many times faster step `after` is than step `before`, prompt by prompt."""
    ratios = log_ratios((place(run), run["steps"][before], run["steps"][after]) for run in runs)
    why = why_no_time(step for run in runs for step in (run["steps"][before], run["steps"][after]))
    field = f"runs[*]: steps[{before}].tpot_ms / steps[{after}].tpot_ms"
    return row(metric, "x", *over_units(ratios, geometric_mean_interval, len(places(runs)), why), field)
