"""Rows of a chain: methods duelled with one baseline, each a factor over the one before and over the first.

A step marked as the anchor (the cached baseline) is no link of the chain: every link is also set against it.
"""

import math
from collections.abc import Iterable, Mapping

from specpress.analysis.metrics.duels import joint_row, log_speedups_of, quality_rows, ratio_row, speedup_of
from specpress.analysis.rows import RUN_METRICS, method_row, number, place

METRICS = ("tokens_per_s", "ttft_s", "tpot_ms", "acceptance_rate", "tokens_per_iteration", "kv_bytes")


def observations(item: Mapping) -> Iterable[dict]:
    """One row a step, run and metric, with the factor over the step before."""
    steps = item["steps"]
    speedups, before = [log_speedups_of(step) for step in steps], _before(steps)
    for position, step in enumerate(steps):
        for run in step["runs"]:
            here = {key: run[key] for key in ("prompt", "document", "offset")} | {"step": step["name"]}
            for metric in METRICS:
                value = number(run["method"].get(metric))
                yield {**here, "metric": metric, "unit": RUN_METRICS[metric][0], "value": value}
            if position in before:
                ours, theirs = (speedups[i].get(place(run)) for i in (position, before[position]))
                value = None if None in (ours, theirs) else math.exp(ours - theirs)
                yield {**here, "metric": "factor", "unit": "x", "value": value}


def summary(item: Mapping) -> Iterable[dict]:
    """Figures of each step, its factor over the link before (`factor`), the first (`factor_total`), the anchor."""
    steps = item["steps"]
    before = _before(steps)
    anchor = next((position for position, step in enumerate(steps) if step.get("anchor")), None)
    first = next(position for position in range(len(steps)) if position != anchor)
    for position, step in enumerate(steps):
        setting = {"step": step["name"], "step_title": step.get("title", step["name"]), "step_number": position}
        for metric in METRICS:
            yield method_row(step["runs"], metric, f"steps[{position}].runs[*].method.{metric}") | setting
        for found in quality_rows(step, item["ended"], item["ended"]["checks"][position]):
            yield found | setting
        if position in before:
            yield _factor("factor", steps, before[position], position) | setting
        if position != first:
            yield _factor("factor_total", steps, first, position) | setting
        if anchor is not None and position != anchor:  # the baseline of the duels is the anchor itself
            yield joint_row("factor_anchor", *speedup_of(step), f"steps[{position}]: runs and brackets") | setting


def _before(steps: list[Mapping]) -> dict[int, int]:
    """The link before each link, by position; the first has none."""
    links = [position for position, step in enumerate(steps) if not step.get("anchor")]
    return dict(zip(links[1:], links[:-1], strict=True))


def _factor(metric: str, steps: list[Mapping], before: int, after: int) -> dict:
    """How many times faster step `after` is than step `before`, prompt by prompt."""
    field = f"runs and brackets of steps[{after}] and steps[{before}]"
    return ratio_row(metric, steps[after], steps[before], field)
