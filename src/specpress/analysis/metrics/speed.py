"""Rows of a speed experiment: the speed-up of duels, the figures of both sides, theory and losslessness."""

import math
from collections.abc import Iterable, Mapping

from specpress.analysis.factors import FACTORS, factors
from specpress.analysis.kinds import kind_of
from specpress.analysis.metrics.categories import category_rows
from specpress.analysis.metrics.duels import joint_row, log_speedups_of, quality_rows, speedup_of
from specpress.analysis.rows import RUN_METRICS, method_row, number, place, run_row, single

BASELINE_METRICS = ("tokens_per_s", "ttft_s", "tpot_ms", "kv_bytes")
THEORY_METRICS = {
    "theory_acceptance": "acceptance",
    "draft_cost": "draft_cost",
    "verification_cost": "verification_cost",
    "predicted_speedup": "predicted_speedup",
}
LOSSLESS_METRICS = ("compared", "equal", "explained", "unexplained")


def observations(item: Mapping) -> Iterable[dict]:
    """One row a run and metric; of a draft length that varies, one row an iteration."""
    speedups = {where: math.exp(value) for where, value in log_speedups_of(item).items()}
    for run in item["runs"]:
        where = {key: run.get(key) for key in ("prompt", "document", "offset", "category")}
        for metric, (unit, _) in RUN_METRICS.items():
            yield {**where, "metric": metric, "unit": unit, "value": number(run["method"].get(metric))}
        for metric in BASELINE_METRICS if run["baseline"] else ():
            value = number(run["baseline"].get(metric))
            yield {**where, "metric": f"baseline_{metric}", "unit": RUN_METRICS[metric][0], "value": value}
        yield {**where, "metric": "speedup", "unit": "x", "value": speedups.get(place(run))}
        if kind_of(_every_factor(item)) == "dynamic":
            yield from _draft_lengths(item["spec"], run, where)
    yield from _tree(item.get("tree"))


def _tree(tree: Mapping | None) -> Iterable[dict]:
    """The example of a tree, node by node: its parent (-1: the context), whether it was kept; then what came next."""
    nodes = [] if tree is None else tree["nodes"]
    for number_, node in enumerate(nodes):
        where = {"iteration": number_, "token": node["token"], "document": tree["before"]}
        yield {**where, "metric": "tree_parent", "unit": "node", "value": float(node["parent"])}
        yield {**where, "metric": "tree_kept", "unit": "", "value": float(node["kept"])}
    if nodes and tree["next"] is not None:
        yield {"metric": "tree_next", "unit": "", "value": 1.0, "token": tree["next"], "document": tree["before"]}


def _every_factor(item: Mapping) -> dict:
    return dict.fromkeys(FACTORS) | factors(item)


def _draft_lengths(spec: Mapping, run: Mapping, where: Mapping) -> Iterable[dict]:
    """Draft tokens proposed, iteration by iteration; the last one, which the end of the text may cut, left out."""
    where = {**where, "schedule": spec["schedule"]["name"], "temperature": spec["sampling"].get("temperature")}
    proposed = (run["method"].get("trace") or {}).get("proposed") or []
    if any(isinstance(value, (list, tuple)) for value in proposed):
        return  # several rows of a batch: no one length an iteration
    for iteration, value in enumerate(proposed[:-1]):
        yield {**where, "metric": "draft_tokens", "unit": "tokens", "value": number(value), "iteration": iteration}


def summary(item: Mapping) -> Iterable[dict]:
    """Speed-up, what the duels were like, figures of the method and of the baseline, theory, losslessness."""
    runs = item["runs"]
    yield joint_row("speedup", *speedup_of(item), "runs[*].tokens over runs[*].rounds at the costs of brackets")
    yield from category_rows(item)
    yield from quality_rows(item, item["ended"], item["ended"]["checks"][0])
    for metric in RUN_METRICS:
        yield method_row(runs, metric, f"runs[*].method.{metric}")
    duelled = [(place(run), run["baseline"]) for run in runs if run["baseline"]]
    for metric in BASELINE_METRICS:
        yield run_row(duelled, metric, f"runs[*].baseline.{metric}") | {"metric": f"baseline_{metric}"}
    theory = item.get("theory") or {}
    for metric, key in THEORY_METRICS.items():
        why = theory.get("why") or "no prediction was made"
        yield single(metric, "x" if metric == "predicted_speedup" else "", theory.get(key), f"theory.{key}", why)
    lossless = item.get("lossless") or {}
    for key in LOSSLESS_METRICS:
        why = lossless.get("why") or "no comparison was made"
        yield single(f"lossless_{key}", "prompts", lossless.get(key), f"lossless.{key}", why)
