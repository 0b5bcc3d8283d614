"""Rows of a chain: methods timed in turn on the same prompts, each a factor over the one before and over the first.

A step marked as the anchor (the cached baseline) is no link of the chain: every link is also set against it.
"""

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
from specpress.analysis.statistics import geometric_mean_interval

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
            if position in _before(item["steps"]):
                value = tpot_ratio(run["steps"][_before(item["steps"])[position]], figures)
                yield {**here, "metric": "factor", "unit": "x", "value": value}


def summary(item: Mapping) -> Iterable[dict]:
    """Figures of each step, its factor over the link before (`factor`), the first (`factor_total`), the anchor."""
    runs, steps = item["runs"], item["steps"]
    before = _before(steps)
    anchor = next((position for position, step in enumerate(steps) if step.get("anchor")), None)
    first = next(position for position in range(len(steps)) if position != anchor)
    for position, step in enumerate(steps):
        setting = {"step": step["name"], "step_title": step.get("title", step["name"]), "step_number": position}
        figures = [(place(run), run["steps"][position]) for run in runs]
        for metric in METRICS:
            yield run_row(figures, metric, f"runs[*].steps[{position}].{metric}") | setting
        if position in before:
            yield _factor(runs, "factor", before[position], position) | setting
        if position != first:
            yield _factor(runs, "factor_total", first, position) | setting
        if anchor is not None and position != anchor:
            yield _factor(runs, "factor_anchor", anchor, position) | setting


def _before(steps: list[Mapping]) -> dict[int, int]:
    """The link before each link, by position; the first has none."""
    links = [position for position, step in enumerate(steps) if not step.get("anchor")]
    return dict(zip(links[1:], links[:-1], strict=True))


def _factor(runs: list[Mapping], metric: str, before: int, after: int) -> dict:
    """How many times faster step `after` is than step `before`, prompt by prompt."""
    ratios = log_ratios((place(run), run["steps"][before], run["steps"][after]) for run in runs)
    why = why_no_time(step for run in runs for step in (run["steps"][before], run["steps"][after]))
    field = f"runs[*]: steps[{before}].tpot_ms / steps[{after}].tpot_ms"
    return row(metric, "x", *over_units(ratios, geometric_mean_interval, len(places(runs)), why), field)
