"""Rows of an experiment on tasks: accuracy by task, press, ratio and mode, and its change against the full cache.

The task `ALL` is those together that the full cache can do; the others decide nothing, and stand with the full cache
alone.
"""

import json
from collections.abc import Iterable, Mapping

from specpress.analysis.rows import row, single
from specpress.theory.proportions import change, proportion

ALL = "all"


def observations(item: Mapping) -> Iterable[dict]:
    """One row a task, press, ratio, mode and sample: its score."""
    for task in item["tasks"]:
        for result in [{"ratio": 0.0} | task["full"], *task["results"]]:
            where = _setting(result) | {"task": task["task"]["name"]}
            for number, (value, sample) in enumerate(zip(result["scores"], task["samples"], strict=True)):
                place = {"prompt": number, "document": sample["document"], "offset": sample["offset"]}
                yield where | place | {"metric": "score", "unit": "", "value": value}


def summary(item: Mapping) -> Iterable[dict]:
    """The rows of every task, then those of all tasks that the full cache can do."""
    for index, task in enumerate(item["tasks"]):
        for found in _task_rows(task, f"tasks[{index}]", item["spec"]["bar"]):
            yield found | named(task["task"], "task")
    able = [task for task in item["tasks"] if task["able"]]
    if able:
        together = {"full": _pooled([task["full"] for task in able])}
        together["results"] = [
            _pooled(list(results)) for results in zip(*(task["results"] for task in able), strict=True)
        ]
        contexts = [(sample["document"], sample["offset"]) for task in able for sample in task["samples"]]
        for found in _result_rows(together, "tasks[*]", contexts):
            yield found | {"task": ALL}


def named(part: Mapping, what: str) -> dict:
    """The factors that say which task or press a row is about: its name, and its parameters if it has any."""
    rest = {key: value for key, value in part.items() if key != "name"}
    return {what: part["name"], f"{what}_parameters": json.dumps(rest, sort_keys=True) if rest else None}


def _task_rows(task: Mapping, field: str, bar: float) -> Iterable[dict]:
    yield from _result_rows(task, field)
    said = "reaches" if task["able"] else "does not reach"
    note = f"the interval of the full cache's accuracy {said} the bar of {bar:g}"
    yield single("able", "", task["able"], f"{field}.able", "") | {"ratio": 0.0, "note": note}


def _result_rows(task: Mapping, field: str, contexts: list[tuple] | None = None) -> Iterable[dict]:
    """Accuracies of the full cache and of every result, and the change of each result, paired by sample.

    contexts : of each sample, where several tasks were hidden in one
    """
    full = task["full"]["scores"]
    yield row("accuracy", "", proportion(full, units=contexts), "", f"{field}.full.scores") | {"ratio": 0.0}
    for index, result in enumerate(task["results"]):
        place, setting = f"{field}.results[{index}]", _setting(result)
        yield row("accuracy", "", proportion(result["scores"], units=contexts), "", f"{place}.scores") | setting
        paired = change(result["scores"], full, units=contexts)
        yield row("accuracy_change", "", paired, "", f"{place}.scores less those of {field}.full") | setting
        yield single("kv_bytes", "bytes", result["kv_bytes"], f"{place}.kv_bytes", "not recorded") | setting


def _setting(result: Mapping) -> dict:
    press = named(result["press"], "press") if "press" in result else {}
    return press | {"ratio": result["ratio"], "mode": result.get("mode")}


def _pooled(results: list[Mapping]) -> dict:
    """The same setting over several tasks: all scores, one task after the other."""
    return dict(results[0]) | {"scores": [score for result in results for score in result["scores"]]}
