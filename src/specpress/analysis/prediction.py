"""What the roofline predicts for a cell of a regime map, from the machine's rates and the model's shape."""

import math
from collections.abc import Mapping
from statistics import fmean

from specpress.analysis.rows import numbers
from specpress.theory.roofline import MachineRates, ModelShape, roofline_step_ms

SHAPE = ("step_weight_bytes", "kv_bytes_per_token", "flops_per_token")


def predict(spec: Mapping, cell: Mapping, shape: Mapping | None, rates: Mapping | None) -> tuple[dict, str]:
    """Predicted times and speed-ups by metric, and why those that are missing are.

    Parameters
    ----------
    spec : the spec of the regime map: gamma
    cell : batch, slots of both caches, tokens an iteration of self-speculation yielded
    shape : the model's manifest; None if it is not known
    rates : the machine's metrics; None if they were not measured
    """
    if rates is None:
        return {}, "the machine's rates were not measured"
    if not shape or any(key not in shape for key in SHAPE):
        return {}, "the model's manifest does not give its shape"
    model, machine, batch = ModelShape.from_manifest(shape), MachineRates.from_metrics(rates), cell["batch"]
    slots = {cache: cell.get(f"slots_{cache}") for cache in ("full", "press")}
    if None in slots.values():
        return {}, "the slots of the caches are not recorded"
    full, press = (roofline_step_ms(model, machine, slots=slots[cache], batch=batch) for cache in ("full", "press"))
    found = {"predicted_full_step_ms": full, "predicted_press_step_ms": press, "predicted_press_speedup": full / press}
    tokens = [value for value in numbers(cell.get("self_tokens_per_iteration")) if value is not None]
    if tokens:
        gamma = spec["gamma"]
        verification = roofline_step_ms(model, machine, slots=slots["full"], batch=batch, queries=gamma + 1)
        typical = math.exp(fmean(map(math.log, tokens)))  # as what is measured: a geometric mean
        found["predicted_self_speedup"] = typical * full / (gamma * press + verification)
    return found, "self-speculation was not measured"
