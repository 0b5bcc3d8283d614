"""Metrics files to tidy tables: one row an observation, one row an estimate, and the environment they come from.

Two tables leave this module. `observations` has one row per experiment, metric and prompt (passage, or training step).
`summary` has one row per experiment, compression ratio and metric: the estimate, its interval, the units behind it and
the factors of the experiment. A value that could not be measured keeps its row: the estimate is empty and `note` says
why.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from specpress.statistics import (
    Estimate,
    geometric_mean_interval,
    mean_interval,
    paired_ratio,
    perplexity_interval,
    perplexity_ratio_interval,
    repeat_spread,
)

SCHEMA = 1
KINDS = ("speed", "perplexity", "draft")

FACTORS = [
    "kind",
    "baseline",
    "model",
    "data",
    "drafter",
    "draft_model",
    "drafter_parameters",
    "schedule",
    "gamma",
    "schedule_parameters",
    "verification",
    "sampling",
    "temperature",
    "top_p",
    "top_k",
    "press",
    "press_parameters",
    "ratio",
    "prompts",
    "prompt_tokens",
    "max_new_tokens",
    "repeats",
    "context",
    "score",
    "passages",
]
SUMMARY_COLUMNS = [
    "experiment", "metric", "unit", "estimate", "low", "high", "n", "reference", "note", "file", "field", *FACTORS,
]  # fmt: skip
INTEGERS = ("n", "gamma", "prompts", "prompt_tokens", "max_new_tokens", "repeats", "context", "score", "passages")
OBSERVATION_COLUMNS = [
    "experiment", "kind", "metric", "unit", "value", "prompt", "repeat", "document", "offset", "ratio", "tokens",
]  # fmt: skip

# What a run of a speed experiment yields: unit, and whether prompts are averaged on the log scale. Times and rates
# are, so that the ratio of two means is the mean of the ratios.
RUN_METRICS = {
    "tokens_per_s": ("tokens/s", True),
    "ttft_s": ("s", True),
    "tpot_ms": ("ms", True),
    "acceptance_rate": ("", False),
    "tokens_per_iteration": ("tokens", False),
    "kv_bytes": ("bytes", False),
    "n_tokens": ("tokens", False),
}
BASELINE_METRICS = ("tokens_per_s", "ttft_s", "tpot_ms", "kv_bytes")
THEORY_METRICS = {
    "theory_acceptance": "acceptance",
    "draft_cost": "draft_cost",
    "verification_cost": "verification_cost",
    "predicted_speedup": "predicted_speedup",
}
LOSSLESS_METRICS = ("compared", "equal", "near_ties", "different")


class MetricsError(ValueError):
    """A metrics file that cannot be read as one."""


def load_metrics(paths: Iterable[str | Path]) -> list[dict]:
    """Read metrics files; each result carries its path under "file".

    Raises
    ------
    MetricsError
        If a file is not JSON, lacks a key, was written under another schema, or repeats an id.
    """
    loaded, seen = [], {}
    for path in paths:
        try:
            metrics = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise MetricsError(
                f"{path}: not a readable metrics file ({error}); remove it and run the experiment again"
            ) from error
        missing = [key for key in ("schema", "id", "kind", "spec", "environment") if key not in metrics]
        if missing:
            raise MetricsError(f"{path}: lacks {', '.join(missing)}; remove it and run the experiment again")
        if metrics["schema"] != SCHEMA:
            raise MetricsError(f"{path}: schema {metrics['schema']!r}, expected {SCHEMA}; run the experiment again")
        if metrics["kind"] not in KINDS:
            raise MetricsError(f"{path}: kind {metrics['kind']!r} is unknown; known: {', '.join(KINDS)}")
        if metrics["id"] in seen:
            raise MetricsError(f"{path}: id {metrics['id']!r} was already read from {seen[metrics['id']]}")
        seen[metrics["id"]] = path
        loaded.append({**metrics, "file": str(path)})
    return loaded


def observations(metrics: Iterable[Mapping]) -> pd.DataFrame:
    """The long table: one row per experiment, metric and prompt (and repeat), passage (and ratio), or training step."""
    makers = {"speed": _speed_observations, "perplexity": _perplexity_observations, "draft": _draft_observations}
    rows = [
        {"experiment": item["id"], "kind": item["kind"], **row}
        for item in metrics
        for row in makers[item["kind"]](item)
    ]
    integers = dict.fromkeys(("prompt", "repeat", "offset", "tokens"), "Int64")
    return pd.DataFrame(rows, columns=OBSERVATION_COLUMNS).astype(integers)


def summary(metrics: Iterable[Mapping]) -> pd.DataFrame:
    """One row per experiment, ratio and metric: estimate, interval, number of units, and the factors."""
    metrics = list(metrics)
    makers = {"speed": _speed_summary, "perplexity": _perplexity_summary, "draft": _draft_summary}
    rows = [
        {"experiment": item["id"], "file": item["file"], **factors(item), **row}
        for item in metrics
        for row in [*makers[item["kind"]](item), *_cost_rows(item)]
    ]
    rows += _schedule_contrasts(metrics) + _press_contrasts(metrics)
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS).astype(dict.fromkeys(INTEGERS, "Int64"))


def factors(item: Mapping) -> dict:
    """What was varied, flat: the columns that say which experiment a row of the summary belongs to."""
    spec = item["spec"]
    sampling, drafter = spec.get("sampling", {}), spec.get("drafter", {})
    schedule, press = spec.get("schedule", {}), spec.get("press", {})
    plain = ("baseline", "model", "data", "verification", "prompts", "prompt_tokens", "max_new_tokens", "repeats",
             "context", "score", "passages")  # fmt: skip
    flat = {key: spec[key] for key in plain if np.isscalar(spec.get(key))}
    flat |= {
        "kind": item["kind"],
        "drafter": drafter.get("name"),
        "draft_model": drafter.get("model"),
        "drafter_parameters": _parameters(drafter, "name", "model"),
        "schedule": schedule.get("name"),
        "gamma": schedule.get("gamma"),
        "schedule_parameters": _parameters(schedule, "name", "gamma"),
        "sampling": sampling.get("name"),
        "temperature": sampling.get("temperature"),
        "top_p": sampling.get("top_p"),
        "top_k": sampling.get("top_k"),
        "press": press.get("name"),
        "press_parameters": _parameters(press, "name", "compression_ratio"),
        "ratio": press.get("compression_ratio"),
    }
    return {key: value for key, value in flat.items() if value is not None}


def environment(
    metrics: Iterable[Mapping],
    *,
    models: Mapping[str, dict] | None = None,
    drafts: Mapping[str, dict] | None = None,
    data: Mapping[str, dict] | None = None,
) -> dict:
    """Where the numbers come from: what all experiments share, and where they differ.

    Returns
    -------
    dict
        `common`: the keys (packages as "packages.<name>") with one value everywhere. `different`: for every other key
        the list of its values, each with the experiments that have it. `mixed`: the keys among those that make
        absolute times incomparable (hardware and software, not the thread count, the dtype or the commit). `models`,
        `drafts`, `data`: the manifests, as given.
    """
    values: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    flat = {item["id"]: _flat(item["environment"]) for item in metrics}
    keys = sorted({key for described in flat.values() for key in described})
    for key in keys:
        for experiment, described in flat.items():
            values[key][json.dumps(described.get(key), sort_keys=True)].append(experiment)
    different = {
        key: [{"value": json.loads(value), "experiments": sorted(ids)} for value, ids in sorted(found.items())]
        for key, found in values.items()
        if len(found) > 1
    }
    harmless = {"threads", "dtype", "commit"}
    return {
        "experiments": sorted(flat),
        "common": {key: json.loads(next(iter(found))) for key, found in values.items() if len(found) == 1},
        "different": different,
        "mixed": sorted(set(different) - harmless),
        "models": dict(models or {}),
        "drafts": dict(drafts or {}),
        "data": dict(data or {}),
    }


# Speed -----------------------------------------------------------------------------------------------------------


def _speed_observations(item: Mapping) -> Iterable[dict]:
    for pair in item["pairs"]:
        where = {key: pair[key] for key in ("prompt", "repeat", "document", "offset")}
        for metric, (unit, _) in RUN_METRICS.items():
            yield {**where, "metric": metric, "unit": unit, "value": _number(pair["method"].get(metric))}
        for metric in BASELINE_METRICS:
            value = _number(pair["baseline"].get(metric))
            yield {**where, "metric": f"baseline_{metric}", "unit": RUN_METRICS[metric][0], "value": value}
        yield {**where, "metric": "speedup", "unit": "x", "value": _speedup(pair)}


def _speed_summary(item: Mapping) -> Iterable[dict]:
    pairs = item["pairs"]
    ratios = _log_speedups(pairs)
    field = "pairs[*]: baseline.tpot_ms / method.tpot_ms"
    yield _row(
        "speedup", "x", *_over_prompts(ratios, geometric_mean_interval, len(_prompts(pairs)), _why(pairs)), field
    )
    for metric, (unit, on_log_scale) in RUN_METRICS.items():
        yield _run_row(pairs, "method", metric, unit, on_log_scale)
    for metric in BASELINE_METRICS:
        row = _run_row(pairs, "baseline", metric, *RUN_METRICS[metric])
        yield {**row, "metric": f"baseline_{metric}"}
    yield _spread_row(pairs)
    theory = item.get("theory") or {}
    for metric, key in THEORY_METRICS.items():
        why = theory.get("why") or "no prediction was made"
        yield _single(metric, "x" if metric == "predicted_speedup" else "", theory.get(key), f"theory.{key}", why)
    lossless = item.get("lossless") or {}
    for key in LOSSLESS_METRICS:
        why = lossless.get("why") or "no comparison was made"
        yield _single(f"lossless_{key}", "prompts", lossless.get(key), f"lossless.{key}", why)


def _run_row(pairs: list[Mapping], role: str, metric: str, unit: str, on_log_scale: bool) -> dict:
    """The mean of one metric of a run: over repeats within a prompt, then over prompts."""
    transform, interval = (np.log, geometric_mean_interval) if on_log_scale else (float, mean_interval)
    by_prompt = defaultdict(list)
    for pair in pairs:
        value = _number(pair[role].get(metric))
        if value is not None and (value > 0 or not on_log_scale):
            by_prompt[_place(pair)].append(transform(value))
    values = {place: float(np.mean(found)) for place, found in by_prompt.items()}
    why = next((pair[role]["why"] for pair in pairs if pair[role].get(metric) is None and pair[role].get("why")), "")
    why = why or ("no drafter" if metric == "acceptance_rate" else "undefined")
    found = _over_prompts(values, interval, len(_prompts(pairs)), why)
    return _row(metric, unit, *found, f"pairs[*].{role}.{metric}")


def _spread_row(pairs: list[Mapping]) -> dict:
    field = "pairs[*], over repeats"
    places, repeats = _prompts(pairs), sorted({pair["repeat"] for pair in pairs})
    table = np.full((len(places), len(repeats)), np.nan)
    for pair in pairs:
        value = _speedup(pair)
        if value is not None:
            table[places.index(_place(pair)), repeats.index(pair["repeat"])] = math.log(value)
    if not (np.isfinite(table).sum(axis=1) >= 2).any():
        return _row("speedup_repeat_spread", "x", None, "one repeat a prompt", field)
    return _row("speedup_repeat_spread", "x", repeat_spread(table), "", field)


def _speedup(pair: Mapping) -> float | None:
    baseline, method = _number(pair["baseline"].get("tpot_ms")), _number(pair["method"].get("tpot_ms"))
    return baseline / method if baseline and method and baseline > 0 and method > 0 else None


def _log_speedups(pairs: Iterable[Mapping]) -> dict[tuple, float]:
    """Log speed-up of each prompt, mean over its repeats; prompts without a defined one are left out."""
    by_prompt = defaultdict(list)
    for pair in pairs:
        if _speedup(pair) is not None:
            by_prompt[_place(pair)].append((pair["baseline"]["tpot_ms"], pair["method"]["tpot_ms"]))
    return {place: float(paired_ratio(*np.array(times).T[:, None, :])[0]) for place, times in by_prompt.items()}


def _why(pairs: Iterable[Mapping]) -> str:
    """Why a time per token is missing, in the words of the first run that misses it."""
    runs = [run for pair in pairs for run in (pair["baseline"], pair["method"])]
    return next((run["why"] for run in runs if run.get("tpot_ms") is None and run.get("why")), "fewer than two tokens")


def _place(pair: Mapping) -> tuple:
    return (pair["document"], pair["offset"])


def _prompts(pairs: Iterable[Mapping]) -> list[tuple]:
    return list(dict.fromkeys(_place(pair) for pair in pairs))


def _over_prompts(values: Mapping[tuple, float], interval, of: int, why: str) -> tuple[Estimate | None, str]:
    """The estimate over the prompts that have a value, and a note when some have none."""
    if not values:
        return None, why
    note = "" if len(values) == of else f"{of - len(values)} of {of} prompts without a value: {why}"
    return interval(list(values.values())), note


# Perplexity ------------------------------------------------------------------------------------------------------


def _perplexity_observations(item: Mapping) -> Iterable[dict]:
    for point in item["curve"]:
        for index, passage in enumerate(item["passages"]):
            where = {"prompt": index, "document": passage["document"], "offset": passage["offset"]}
            nll, tokens = _number(point["nll"][index]), point["n_tokens"][index]
            mean = nll / tokens if nll is not None and tokens else None
            yield {**where, "ratio": point["ratio"], "metric": "nll_per_token", "unit": "nats", "value": mean}


def _perplexity_summary(item: Mapping) -> Iterable[dict]:
    points = {point["ratio"]: point for point in item["curve"]}
    for ratio, point in points.items():
        scored = [_number(value) is not None for value in point["nll"]]
        note = "" if all(scored) else f"{scored.count(False)} of {len(scored)} passages have no finite likelihood"
        field = f"curve[ratio={ratio:g}]"
        estimate = None if note else perplexity_interval(point["nll"], point["n_tokens"])
        yield _row("ppl", "", estimate, note, f"{field}: exp(sum nll / sum n_tokens)") | {"ratio": ratio}
        yield _ratio_row(point, points.get(0), field) | {"ratio": ratio}
        yield _single("kv_bytes", "bytes", point.get("kv_bytes"), f"{field}.kv_bytes", "not recorded") | {
            "ratio": ratio
        }


def _ratio_row(point: Mapping, reference: Mapping | None, field: str) -> dict:
    field = f"{field} over curve[ratio=0]"
    if reference is None:
        return _row("ppl_ratio", "x", None, "ratio 0 was not measured", field)
    if any(_number(value) is None for value in [*point["nll"], *reference["nll"]]):
        return _row("ppl_ratio", "x", None, "a passage has no finite likelihood", field)
    return _row("ppl_ratio", "x", _paired_ppl(point, reference), "", field)


def _paired_ppl(point: Mapping, reference: Mapping) -> Estimate:
    return perplexity_ratio_interval(point["nll"], point["n_tokens"], reference["nll"], reference["n_tokens"])


# Drafts ----------------------------------------------------------------------------------------------------------


def _draft_observations(item: Mapping) -> Iterable[dict]:
    for step in item["loss"]:
        yield {"metric": "loss", "unit": "nats", "value": _number(step["loss"]), "tokens": step["tokens"]}


def _draft_summary(item: Mapping) -> Iterable[dict]:
    for metric, unit in (("parameters", ""), ("head_tokens", "tokens"), ("tokens", "tokens")):
        yield _single(metric, unit, item.get(metric), metric, "not recorded")
    for metric in ("layers", "sequence", "batch", "learning_rate"):
        yield _single(metric, "", item["spec"].get(metric), f"spec.{metric}", "not recorded")
    last = item["loss"][-1]["loss"] if item.get("loss") else None
    yield _single("final_loss", "nats", last, "loss[-1].loss", "no loss was recorded")
    for data, held_out in (item.get("held_out") or {}).items():
        for metric, key, unit in (
            ("held_out_acceptance", "acceptance", ""),
            ("held_out_cross_entropy", "cross_entropy", "nats"),
            ("held_out_coverage", "coverage", ""),
            ("held_out_tokens", "n_tokens", "tokens"),
        ):
            yield _single(metric, unit, held_out.get(key), f"held_out.{data}.{key}", "not recorded") | {"data": data}


def _cost_rows(item: Mapping) -> Iterable[dict]:
    yield _single("wall_seconds", "s", item.get("wall_seconds"), "wall_seconds", "not recorded")
    yield _single("peak_memory_bytes", "bytes", item.get("peak_memory_bytes"), "peak_memory_bytes", "not recorded")


# Contrasts between experiments -----------------------------------------------------------------------------------


def _schedule_contrasts(metrics: list[Mapping]) -> list[dict]:
    """A dynamic schedule against the constant one it starts from: the ratio of their speed-ups, prompt by prompt."""
    rows = []
    for item in metrics:
        schedule = item["spec"].get("schedule") or {}
        if item["kind"] != "speed" or schedule.get("name") in (None, "constant") or "initial" not in schedule:
            continue
        constant = {**item["spec"], "schedule": {"name": "constant", "gamma": schedule["initial"]}}
        reference = _find(metrics, constant)
        if reference is None:
            continue
        ours, theirs = _log_speedups(item["pairs"]), _log_speedups(reference["pairs"])
        shared = {place: ours[place] - theirs[place] for place in ours if place in theirs}
        of = len(_prompts(item["pairs"]))
        estimate, note = _over_prompts(shared, geometric_mean_interval, of, "not measured by both experiments")
        row = _row("speedup_over_reference", "x", estimate, note, f"pairs[*] of both, against {reference['id']}")
        rows.append(_contrast(item, reference, row))
    return rows


def _press_contrasts(metrics: list[Mapping], reference_press: str = "streaming_llm") -> list[dict]:
    """Every press against StreamingLLM at the same ratio: the ratio of their perplexities, passage by passage."""
    rows = []
    for item in metrics:
        press = item["spec"].get("press") or {}
        if item["kind"] != "perplexity" or press.get("name") in (None, reference_press):
            continue
        reference = _find(metrics, {**item["spec"], "press": {"name": reference_press}})
        if reference is None or item["passages"] != reference["passages"]:
            continue
        theirs = {point["ratio"]: point for point in reference["curve"]}
        for point in item["curve"]:
            if point["ratio"] == 0 or point["ratio"] not in theirs:
                continue
            row = _ratio_row(point, theirs[point["ratio"]], f"curve[ratio={point['ratio']:g}]")
            row |= {"metric": "ppl_over_reference", "ratio": point["ratio"]}
            row["field"] = f"curve[ratio={point['ratio']:g}] of both, against {reference['id']}"
            rows.append(_contrast(item, reference, row))
    return rows


def _find(metrics: list[Mapping], spec: Mapping) -> Mapping | None:
    """The result whose spec equals `spec` in everything but its id."""

    def nameless(spec):
        return {key: value for key, value in spec.items() if key != "id"}

    return next((item for item in metrics if nameless(item["spec"]) == nameless(spec)), None)


def _contrast(item: Mapping, reference: Mapping, row: dict) -> dict:
    return {"experiment": item["id"], "file": item["file"], **factors(item), **row, "reference": reference["id"]}


# Rows ------------------------------------------------------------------------------------------------------------


def _row(metric: str, unit: str, estimate: Estimate | None, note: str, field: str) -> dict:
    row = {"metric": metric, "unit": unit, "field": field}
    if estimate is None:
        return row | {"note": note}
    notes = "; ".join(part for part in (note, estimate.note) if part)
    return row | {
        "estimate": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n, "note": notes,
    }  # fmt: skip


def _single(metric: str, unit: str, value, field: str, why: str) -> dict:
    """A row for a number that was measured once, without an interval."""
    number = _number(value)
    return {
        "metric": metric,
        "unit": unit,
        "estimate": number,
        "field": field,
        "note": "" if number is not None else why,
    }


def _number(value) -> float | None:
    """The value as a finite float; None for what is not measured."""
    return float(value) if value is not None and math.isfinite(value) else None


def _parameters(part: Mapping, *without: str) -> str | None:
    """The remaining parameters of a drafter, schedule or press, as one canonical JSON string."""
    rest = {key: value for key, value in part.items() if key not in without}
    return json.dumps(rest, sort_keys=True) if rest else None


def _flat(described: Mapping) -> dict:
    packages = {f"packages.{name}": version for name, version in (described.get("packages") or {}).items()}
    return {key: value for key, value in described.items() if key != "packages"} | packages
