"""Rows of a speed experiment: paired speed-ups, the figures of both runs, theory and losslessness."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from specpress.analysis.factors import FACTORS, factors
from specpress.analysis.kinds import kind_of
from specpress.analysis.rows import (
    RUN_METRICS,
    log_ratios,
    number,
    over_units,
    place,
    places,
    row,
    run_row,
    single,
    tpot_ratio,
    why_no_time,
)
from specpress.analysis.statistics import geometric_mean_interval, repeat_spread

BASELINE_METRICS = ("tokens_per_s", "ttft_s", "tpot_ms", "kv_bytes")
THEORY_METRICS = {
    "theory_acceptance": "acceptance",
    "draft_cost": "draft_cost",
    "verification_cost": "verification_cost",
    "predicted_speedup": "predicted_speedup",
}
LOSSLESS_METRICS = ("compared", "equal", "near_ties", "different")


def observations(item: Mapping) -> Iterable[dict]:
    """One row a pair and metric; of a draft length that varies, one row an iteration."""
    for pair in item["pairs"]:
        where = {key: pair[key] for key in ("prompt", "repeat", "document", "offset")}
        for metric, (unit, _) in RUN_METRICS.items():
            yield {**where, "metric": metric, "unit": unit, "value": number(pair["method"].get(metric))}
        for metric in BASELINE_METRICS:
            value = number(pair["baseline"].get(metric))
            yield {**where, "metric": f"baseline_{metric}", "unit": RUN_METRICS[metric][0], "value": value}
        yield {**where, "metric": "speedup", "unit": "x", "value": tpot_ratio(pair["baseline"], pair["method"])}
        if pair["repeat"] == 0 and kind_of(_every_factor(item)) == "dynamic":
            yield from _draft_lengths(item["spec"], pair, where)


def _every_factor(item: Mapping) -> dict:
    return dict.fromkeys(FACTORS) | factors(item)


def _draft_lengths(spec: Mapping, pair: Mapping, where: Mapping) -> Iterable[dict]:
    """Draft tokens proposed, iteration by iteration; the last one, which the end of the text may cut, left out."""
    where = {**where, "schedule": spec["schedule"]["name"], "temperature": spec["sampling"].get("temperature")}
    proposed = (pair["method"].get("trace") or {}).get("proposed") or []
    if any(isinstance(value, (list, tuple)) for value in proposed):
        return  # several rows of a batch: no one length an iteration
    for iteration, value in enumerate(proposed[:-1]):
        yield {**where, "metric": "draft_tokens", "unit": "tokens", "value": number(value), "iteration": iteration}


def summary(item: Mapping) -> Iterable[dict]:
    """Speed-up, figures of the method and of the baseline, spread over repeats, theory, losslessness."""
    pairs = item["pairs"]
    why = why_no_time(run for pair in pairs for run in (pair["baseline"], pair["method"]))
    field = "pairs[*]: baseline.tpot_ms / method.tpot_ms"
    found = over_units(log_speedups(item), geometric_mean_interval, len(places(pairs)), why)
    yield row("speedup", "x", *found, field)
    for metric in RUN_METRICS:
        yield run_row([(place(pair), pair["method"]) for pair in pairs], metric, f"pairs[*].method.{metric}")
    for metric in BASELINE_METRICS:
        field = f"pairs[*].baseline.{metric}"
        yield run_row([(place(p), p["baseline"]) for p in pairs], metric, field) | {"metric": f"baseline_{metric}"}
    yield _spread_row(pairs)
    theory = item.get("theory") or {}
    for metric, key in THEORY_METRICS.items():
        why = theory.get("why") or "no prediction was made"
        yield single(metric, "x" if metric == "predicted_speedup" else "", theory.get(key), f"theory.{key}", why)
    lossless = item.get("lossless") or {}
    for key in LOSSLESS_METRICS:
        why = lossless.get("why") or "no comparison was made"
        yield single(f"lossless_{key}", "prompts", lossless.get(key), f"lossless.{key}", why)


def log_speedups(item: Mapping) -> dict[tuple, float]:
    """Log speed-up of each prompt, mean over its repeats; prompts without a defined one are left out."""
    return log_ratios((place(pair), pair["baseline"], pair["method"]) for pair in item["pairs"])


def _spread_row(pairs: list[Mapping]) -> dict:
    field = "pairs[*], over repeats"
    prompts, repeats = places(pairs), sorted({pair["repeat"] for pair in pairs})
    table = np.full((len(prompts), len(repeats)), np.nan)
    for pair in pairs:
        value = tpot_ratio(pair["baseline"], pair["method"])
        if value is not None:
            table[prompts.index(place(pair)), repeats.index(pair["repeat"])] = math.log(value)
    if not (np.isfinite(table).sum(axis=1) >= 2).any():
        return row("speedup_repeat_spread", "x", None, "one repeat a prompt", field)
    return row("speedup_repeat_spread", "x", repeat_spread(table), "", field)
