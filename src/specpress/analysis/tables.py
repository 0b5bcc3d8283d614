"""The two tables of a study, from the rows of every experiment."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TextIO

import pandas as pd

from specpress.analysis.contrasts import contrasts
from specpress.analysis.factors import FACTORS, INTEGERS, factors
from specpress.analysis.loading import blaming_files
from specpress.analysis.metrics import chain, disturbance, draft, machine, perplexity, regime, rounding, speed, tasks
from specpress.analysis.physics import with_most
from specpress.analysis.rows import single

SUMMARY_COLUMNS = [
    "experiment", "metric", "unit", "estimate", "low", "high", "n", "log_error", "error", "freedom", "skew",
    "machine_share", "reference", "note", "file", "field", *FACTORS,
]  # fmt: skip
OBSERVATION_COLUMNS = [
    "experiment", "kind", "metric", "unit", "value", "prompt", "repeat", "iteration", "document", "offset", "category",
    "ratio", "mode", "step", "batch", "context", "schedule", "temperature", "tokens", "seconds", "task", "press",
    "token",
]  # fmt: skip
NUMBERS = {
    "estimate", "low", "high", "n", "log_error", "error", "freedom", "skew", "machine_share", "value", "prompt",
    "repeat", "iteration", "offset", "tokens", "seconds", "temperature", "top_p", "top_k", "ratio", "drafter_ratio",
    "precision", "budget_seconds", "bar", "chat", *INTEGERS,
}  # fmt: skip
MAKERS = {
    "speed": speed, "perplexity": perplexity, "draft": draft, "chain": chain, "regime": regime, "machine": machine,
    "tasks": tasks, "rounding": rounding,
}  # fmt: skip


def read_table(source: Path | str | TextIO) -> pd.DataFrame:
    """A table as it was written: a category called 2024, a step called 1 and a token None are the texts they were."""
    texts = dict.fromkeys({*SUMMARY_COLUMNS, *OBSERVATION_COLUMNS} - NUMBERS, str)
    return pd.read_csv(source, dtype=texts, keep_default_na=False, na_values=[""], low_memory=False)


@blaming_files
def observations(metrics: Iterable[Mapping]) -> pd.DataFrame:
    """The long table: a row per experiment, metric and prompt (passage, repeat, iteration or training step)."""
    rows = [
        {"experiment": item["id"], "kind": item["kind"], **row}
        for item in metrics
        for row in MAKERS[item["kind"]].observations(item)
    ]
    whole = ("prompt", "repeat", "iteration", "offset", "batch", "context", "tokens")
    return pd.DataFrame(rows, columns=OBSERVATION_COLUMNS).astype(dict.fromkeys(whole, "Int64"))


@blaming_files
def summary(metrics: Iterable[Mapping], models: Mapping[str, Mapping] | None = None) -> pd.DataFrame:
    """One row per experiment, setting and metric: estimate, interval, number of units, and the factors.

    Parameters
    ----------
    metrics : iterable of dict, as `load_metrics` returns them
    models : manifest of each model and draft by name; the roofline takes their shapes from it
    """
    metrics = list(metrics)
    rates = next((item for item in metrics if item["kind"] == "machine"), None)
    rows = [
        {"experiment": item["id"], "file": item["file"], **factors(item), **row}
        for item in metrics
        for row in [*_measured(item, models or {}, rates), *_cost_rows(item), *disturbance.rows(item)]
    ]
    table = pd.DataFrame([*rows, *contrasts(metrics)], columns=SUMMARY_COLUMNS)
    return table.astype(dict.fromkeys(("n", *INTEGERS), "Int64"))


def _measured(item: Mapping, models: Mapping, rates: Mapping | None) -> Iterable[dict]:
    """The rows of its kind, each speed-up with the most it can be beside it."""
    return with_most(item, _rows(item, models, rates), models, rates)


def _rows(item: Mapping, models: Mapping, rates: Mapping | None) -> Iterable[dict]:
    if item["kind"] == "regime":
        return regime.summary(item, models.get(item["spec"].get("model")), rates)
    return MAKERS[item["kind"]].summary(item)


def _cost_rows(item: Mapping) -> Iterable[dict]:
    yield single("wall_seconds", "s", item.get("wall_seconds"), "wall_seconds", "not recorded")
    yield single("peak_memory_bytes", "bytes", item.get("peak_memory_bytes"), "peak_memory_bytes", "not recorded")
