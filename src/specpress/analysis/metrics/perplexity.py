"""Rows of a perplexity experiment: perplexity, acceptance, time of a step and bytes, by ratio and way of compressing.

A press compresses once, after the prefix, or keeps compressing while decoding (`mode`); both are set against the full
cache, ratio 0, of the same passages.
"""

from collections.abc import Iterable, Mapping

from specpress.analysis.metrics.duels import constant_speedup, joint_row
from specpress.analysis.rows import mean_row, number, row, single
from specpress.analysis.statistics import perplexity_interval, perplexity_ratio_interval
from specpress.theory.parts import PRESSED


def observations(item: Mapping) -> Iterable[dict]:
    """One row a ratio, mode and passage: nats per token."""
    for point in item["curve"]:
        for index, passage in enumerate(item["passages"]):
            where = {"prompt": index, "document": passage["document"], "offset": passage["offset"]}
            where |= {"ratio": point["ratio"], "mode": mode_of(point)}
            nll, tokens = number(point["nll"][index]), point["n_tokens"][index]
            mean = nll / tokens if nll is not None and tokens else None
            yield {**where, "metric": "nll_per_token", "unit": "nats", "value": mean}


def summary(item: Mapping) -> Iterable[dict]:
    """The rows of every point of the curve."""
    reference = next((point for point in item["curve"] if point["ratio"] == 0), None)
    if "reference" in item:
        over = ratio_row(reference, item["reference"], "curve[ratio=0]", over="reference")
        yield over | {"metric": "model_ppl_ratio"}
    for point in item["curve"]:
        setting = {"ratio": point["ratio"], "mode": mode_of(point)}
        for found in _point_rows(point, reference):
            yield found | setting


def mode_of(point: Mapping) -> str:
    """How a point was compressed: "once" or "decoding"."""
    return point.get("mode") or "once"


def field_of(point: Mapping) -> str:
    """Where a point stands in the metrics file."""
    return f"curve[ratio={point['ratio']:g}, {mode_of(point)}]"


def _point_rows(point: Mapping, reference: Mapping | None) -> Iterable[dict]:
    scored = [number(value) is not None for value in point["nll"]]
    note = "" if all(scored) else f"{scored.count(False)} of {len(scored)} passages have no finite likelihood"
    field = field_of(point)
    estimate = None if note else perplexity_interval(point["nll"], point["n_tokens"])
    yield row("ppl", "", estimate, note, f"{field}: exp(sum nll / sum n_tokens)")
    yield ratio_row(point, reference, field)
    for metric, unit in (("kv_bytes", "bytes"), ("slots", "slots")):
        yield single(metric, unit, point.get(metric), f"{field}.{metric}", "not recorded")
    why = "not measured at this point"
    full, step = point.get("full_step_ms"), point.get("step_ms")
    acceptance = point.get("acceptance")
    yield mean_row("acceptance", "", acceptance, why, f"{field}.acceptance", "passages")
    yield mean_row("step_ms", "ms", step, why, f"{field}.step_ms", "passages", on_log_scale=True)
    yield mean_row("full_step_ms", "ms", full, why, f"{field}.full_step_ms", "passages", on_log_scale=True)
    found = constant_speedup(PRESSED, 1, point["brackets"], len(point["nll"])) if point.get("brackets") else None
    yield joint_row("step_speedup", found, "" if found else why, f"{field}.brackets")


def ratio_row(point: Mapping, reference: Mapping | None, field: str, over: str = "curve[ratio=0]") -> dict:
    """Perplexity of a point over that of a reference on the same passages, with its interval."""
    field = f"{field} over {over}"
    if reference is None:
        return row("ppl_ratio", "x", None, "ratio 0 was not measured", field)
    if any(number(value) is None for value in [*point["nll"], *reference["nll"]]):
        return row("ppl_ratio", "x", None, "a passage has no finite likelihood", field)
    paired = perplexity_ratio_interval(point["nll"], point["n_tokens"], reference["nll"], reference["n_tokens"])
    return row("ppl_ratio", "x", paired, "", field)
