"""Rows of a regime map: time of a step on the full and on the compressed cache, by batch and context.

Steps on the compressed cache and verifications are set between steps on the full one; the tokens an iteration of self-
speculation yields differ from text to text, a text a repeat. Beside each measurement stands what the roofline predicts
from the machine's rates and the model's shape, which know nothing of it.
"""

from collections.abc import Iterable, Mapping

from specpress.analysis.metrics.duels import constant_speedup, joint_row
from specpress.analysis.prediction import predict
from specpress.analysis.rows import mean_row, number, single
from specpress.theory.costs import Brackets
from specpress.theory.duels import Text, speedup
from specpress.theory.parts import PRESSED, VERIFICATION

TIMES = {"full_step_ms": "full_step_ms", "press_step_ms": "press_step_ms", "self_token_ms": "self_token_ms"}
PREDICTIONS = {
    "predicted_full_step_ms": "ms", "predicted_press_step_ms": "ms", "predicted_press_speedup": "x",
    "predicted_self_speedup": "x",
}  # fmt: skip


def observations(item: Mapping) -> Iterable[dict]:
    """One row a cell, repeat and time."""
    for cell in item["cells"]:
        for metric in TIMES:
            for repeat, value in enumerate(cell.get(metric) or ()):
                where = {"batch": cell["batch"], "context": cell["context"], "repeat": repeat}
                yield {**where, "metric": metric, "unit": "ms", "value": number(value)}


def summary(item: Mapping, shape: Mapping | None = None, rates: Mapping | None = None) -> Iterable[dict]:
    """The rows of every cell; `shape` is the model's manifest, `rates` the machine's metrics, for the predictions."""
    for index, cell in enumerate(item["cells"]):
        setting = {"batch": cell["batch"], "context": cell["context"]}
        for found in _cell_rows(item["spec"], cell, f"cells[{index}]", shape, rates):
            yield found | setting


def _cell_rows(spec: Mapping, cell: Mapping, field: str, shape, rates) -> Iterable[dict]:
    why = cell.get("skipped") or "not measured in this cell"
    for metric in TIMES:
        yield mean_row(metric, "ms", cell.get(metric), why, f"{field}.{metric}", "repeats", on_log_scale=True)
    tokens = cell.get("self_tokens_per_iteration")
    yield mean_row("self_tokens_per_iteration", "tokens", tokens, why, f"{field}.self_tokens_per_iteration", "repeats")
    brackets = cell["brackets"] if cell["brackets"]["part"] else None
    press = constant_speedup(PRESSED, 1, brackets, len(tokens)) if brackets else None
    yield joint_row("press_speedup", press, "" if press else why, f"{field}.brackets")
    rounds = {(PRESSED, 1): spec["gamma"], (VERIFICATION, spec["gamma"] + 1): 1}
    itself = speedup([Text(n, rounds) for n in tokens], Brackets.from_columns(brackets)) if brackets else None
    yield joint_row("self_speedup", itself, "" if itself else why, f"{field}: self_tokens_per_iteration and brackets")
    for metric in ("slots_full", "slots_press"):
        yield single(metric, "slots", cell.get(metric), f"{field}.{metric}", why)
    for metric in ("kv_bytes_full", "kv_bytes_press"):
        yield single(metric, "bytes", cell.get(metric), f"{field}.{metric}", why)
    predicted, why = predict(spec, cell, shape, rates)
    for metric, unit in PREDICTIONS.items():
        yield single(metric, unit, predicted.get(metric), f"machine rates, model shape and {field}", why)
