"""The most that traffic and counts allow, beside each measured speed-up; one well above it is marked.

A forward reads the weights and what is in its cache, however few rows it has. What that takes on this machine, the
roofline says (`specpress.theory.roofline`, after Williams et al., 2009) from rates that were measured apart. So a
method cannot gain more than the tokens its rounds yielded, times a step of the baseline, over the forwards of those
rounds:

    tokens x t(baseline) / sum over rounds of (drafted x t(draft) + t(target on the slots it kept))

The most is to hold whatever method it is, so that weights are taken to be read at the best rate measured for as many
rows or more, for fewer do not take longer, and those held in fewer bits, whose kernel is another, at the rate of a
copy; and caches at the lowest rate measured, for what a press removes took at most so long.

A draft token of a cascade costs at least its share of a forward of the intermediate model, one that is looked up
nothing. A speed-up is marked where its whole interval lies above the most.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import fmean

from specpress.analysis.prediction import SHAPE, predict
from specpress.analysis.rows import number, single
from specpress.theory.parts import DRAFTING, VERIFICATION
from specpress.theory.roofline import MachineRates, ModelShape, roofline_step_ms

SPEEDUPS = ("speedup", "press_speedup", "self_speedup", "step_speedup")
_SETTING = ("batch", "context", "ratio", "mode")


def with_most(item: Mapping, rows: Iterable[dict], shapes: Mapping, rates: Mapping | None) -> Iterable[dict]:
    """The rows of an experiment, each measured speed-up followed by `<metric>_most`, and marked where it lies above.

    shapes : manifest of each model and draft by name
    rates : the machine's metrics; None if they were not measured
    """
    for row in rows:
        if row["metric"] not in SPEEDUPS or row.get("estimate") is None:
            yield row
            continue
        most, why = _most(item, row, shapes, rates)
        low = row["estimate"] if row.get("low") is None else row["low"]
        above = most is not None and low > most
        mark = f"above the {most:.2f} that traffic and counts allow" if above else ""
        setting = {key: row[key] for key in _SETTING if key in row}
        yield row | {"note": "; ".join(part for part in (row.get("note"), mark) if part)}
        yield single(f"{row['metric']}_most", "x", most, "machine rates, model shapes and counts", why) | setting
        yield single(f"{row['metric']}_above", "", float(above), "estimate or low end over the most", "") | setting


def _most(item: Mapping, row: Mapping, shapes: Mapping, rates: Mapping | None) -> tuple[float | None, str]:
    """The most for one row, and why there is none."""
    if rates is None:
        return None, "the machine's rates were not measured"
    missing = [name for name in _models(item["spec"]) if any(key not in shapes.get(name, {}) for key in SHAPE)]
    if missing:
        return None, f"the manifest of {', '.join(missing)} does not give its shape"
    caches = (rates["kv_gb_s_by_queries"]["1"], *rates.get("kv_gb_s_alone", {}).values())
    rates = {
        **rates,
        "weight_gb_s_by_rows": _best(rates["weight_gb_s_by_rows"]),
        "kv_gb_s_by_queries": {"1": min(caches)},
    }
    steps = _Steps(shapes, rates)
    if item["kind"] == "regime":
        return _of_cell(item, row, shapes, rates)
    if item["kind"] == "perplexity":
        return _of_point(item, row, steps), ""
    return _of_runs(item, steps), ""


def _best(gb_s_by_rows: Mapping[str, float]) -> dict[str, float]:
    """The highest rate for as many rows or more."""
    return {rows: max(rate for more, rate in gb_s_by_rows.items() if int(more) >= int(rows)) for rows in gb_s_by_rows}


_OF_DRAFTERS = ("model", "head", "intermediate_model")


def _models(spec: Mapping) -> list[str]:
    drafter = spec.get("drafter") or {}
    names = [spec.get("baseline"), spec.get("model"), *(drafter.get(key) for key in _OF_DRAFTERS)]
    return [name for name in names if name]


class _Steps:
    """Milliseconds of a forward by the roofline; what does not depend on sizes grows with the layers of a model."""

    def __init__(self, shapes: Mapping, rates: Mapping):
        self._shapes, self._rates, self._copy = shapes, MachineRates.from_metrics(rates), rates["copy_gb_s"]
        self._layers = shapes.get(rates.get("spec", {}).get("model"), {}).get("layers")

    def ms(self, model: str, slots: float, batch: int = 1) -> float:
        """Of one row a sequence, on `slots` slots of each."""
        shape = self._shapes[model]
        share = shape["layers"] / self._layers if self._layers and "layers" in shape else 1.0
        rates = replace(self._rates, step_overhead_ms=share * self._rates.step_overhead_ms)
        if shape.get("weights"):
            best = max(self._copy, *rates.weight_gb_s.values())
            rates = replace(rates, weight_gb_s=dict.fromkeys(rates.weight_gb_s, best))
        return roofline_step_ms(ModelShape.from_manifest(shape), rates, slots=slots, batch=batch)

    def bits(self, model: str) -> int:
        """Of a number of its weights."""
        return {"float32": 32}.get(self._shapes[model].get("dtype"), 16)

    def kept(self, model: str, kv_bytes: float | None, batch: int = 1) -> float:
        """Slots a sequence that so many bytes of keys and values are."""
        return (kv_bytes or 0) / self._shapes[model]["kv_bytes_per_token"] / batch


def _of_cell(item: Mapping, row: Mapping, shapes: Mapping, rates: Mapping) -> tuple[float | None, str]:
    """A cell of a regime map: what the roofline predicts for it."""
    cell = next(c for c in item["cells"] if (c["batch"], c["context"]) == (row["batch"], row["context"]))
    found, why = predict(item["spec"], cell, shapes.get(item["spec"]["model"]), rates)
    return found.get(f"predicted_{row['metric']}"), why


def _of_point(item: Mapping, row: Mapping, steps: _Steps) -> float:
    """A step on a compressed cache, of the bytes that the press left."""
    spec = item["spec"]
    point = next(
        p for p in item["curve"] if (p["ratio"], p.get("mode") or "once") == (row["ratio"], row.get("mode", "once"))
    )
    kept = steps.kept(spec["model"], point.get("kv_bytes"))
    return steps.ms(spec["model"], spec["context"]) / steps.ms(spec["model"], min(kept, spec["context"]))


def _of_runs(item: Mapping, steps: _Steps) -> float:
    """The geometric mean over prompts."""
    spec, batch = item["spec"], item["spec"].get("batch", 1)
    found = []
    for run in item["runs"]:
        if run["tokens"] <= 0:
            continue
        full = run["prompt_tokens"] + run["tokens"] / 2
        kept = full
        if "press" in spec:  # what is recorded are the bytes at the end
            grown = 0 if "cache_budget" in spec else run["tokens"] / 2
            kept = steps.kept(spec["model"], number(run["method"].get("kv_bytes")), batch) - grown
        rounds = sum(
            count * _part_ms(part, size / batch, spec, steps, full, min(kept, full), batch)
            for part, size, count in run["rounds"]
        )
        found.append(math.log(run["tokens"] * steps.ms(spec["baseline"], full, batch) / rounds))
    return math.exp(fmean(found)) if found else math.inf


def _part_ms(part: str, size: float, spec: Mapping, steps: _Steps, full: float, kept: float, batch: int) -> float:
    """The least a part of a round takes; `size` a sequence."""
    if part == VERIFICATION:
        return steps.ms(spec["model"], kept, batch)
    if part != DRAFTING:
        return 0.0
    passes = size / spec["drafter"].get("children", 1)  # a draft that branches drafts so many tokens in one
    return passes * _draft_ms(spec["drafter"], spec, steps, full, batch)


def _draft_ms(drafter: Mapping, spec: Mapping, steps: _Steps, full: float, batch: int) -> float:
    """The least a pass of a draft takes."""
    if "intermediate_model" in drafter:
        return steps.ms(drafter["intermediate_model"], 0, batch) / (drafter.get("gamma", 4) + 1)
    if named := drafter.get("model", drafter.get("head")):
        return steps.ms(named, 0 if "press" in drafter else full, batch)
    if drafter["name"] == "quantized_target":  # all of a step, as if its cache were held in as few bits
        return steps.ms(spec["model"], full, batch) * (drafter.get("bits", 4) + 1) / steps.bits(spec["model"])
    if "press" in drafter:
        return steps.ms(spec["model"], full * (1 - drafter["press"].get("compression_ratio", 0)), batch)
    return 0.0
