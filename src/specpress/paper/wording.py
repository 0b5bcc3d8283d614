"""What things are called in the paper: methods, schedules, drafters, presses and sampling, from the factors of a row.

Plain text, not LaTeX: the figures use it as it is, the tables escape it.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from specpress.analysis.kinds import drafter_of
from specpress.paper.prose import lower_first, upper_first
from specpress.study.expansion import branches

PRESSES = {
    "streaming_llm": "StreamingLLM",
    "knorm": "Knorm",
    "snapkv": "SnapKV",
    "tova": "TOVA",
    "keydiff": "KeyDiff",
    "expected_attention": "Expected attention",
    "observed_attention": "Observed attention",
    "adaptive": "Adaptive",
    "hybrid": "Hybrid",
    "optimized_hybrid": "Hybrid conservative",  # as the original study's report calls it
    "random": "Random",
}
DATA = {
    "wikipedia": "Wikipedia",
    "bible": "King James Bible",
    "wikitext": "WikiText-2",
    "pg19": "PG-19",
    "mt-bench": "MT-Bench",
    "humaneval": "HumanEval",
}
ARTICLES = {"bible": "the "}  # names that prose does not use without an article
DRAFTERS = {
    "draft_model": "Draft model",
    "prompt_lookup": "Prompt lookup",
    "compressed_target": "Self-speculation",
    "cascade": "Cascade",
    "feature_head": "Feature head",
    "quantized_target": "Quantised target",
    "token_recycling": "Token recycling",
    "suffix_lookup": "Suffix lookup",
}
SHAPES = {"path": " as a path", "fixed": " in a fixed shape"}  # of what is grown, unless it is the best one
TASKS = {
    "single_needle": "one needle",
    "several_needles": "several needles",
    "several_values": "several values",
    "variable_tracking": "variable tracking",
    "common_words": "common words",
    "all": "all tasks",
}
MODES = {"agnostic": "question unseen", "aware": "question seen"}
SCHEDULES = {"aimd": "AIMD", "plus_minus_one": "±1"}


def press_name(name: str) -> str:
    """The name of a press as its authors write it; an unlisted one as the configuration does, without underscores."""
    return PRESSES.get(name, name.replace("_", " "))


def task_name(row: Mapping) -> str:
    """What a task is called, with the parameters that a study gives it.

    >>> task_name({"task": "several_needles", "task_parameters": '{"needles": 8}'})
    'several needles (needles 8)'
    """
    name = TASKS.get(row["task"], row["task"].replace("_", " "))
    parameters = json.loads(row["task_parameters"]) if _given(row, "task_parameters") else {}
    return name + (f" ({', '.join(f'{key} {value}' for key, value in parameters.items())})" if parameters else "")


def data_name(name: str) -> str:
    """The name of a data set, likewise."""
    return DATA.get(name, name.replace("_", " "))


# What is said of the prompts of an experiment where it tells it from others.
PROMPT_WORDS: dict[str, Callable[[Any], str]] = {
    "data": data_name,
    "prompt_limit": "{:.0f} tokens of prompt".format,
    "batch": "batch {:.0f}".format,
}


def data_prose(name: str) -> str:
    """The name of a data set inside a sentence.

    >>> data_prose("bible")
    'the King James Bible'
    """
    return ARTICLES.get(name, "") + data_name(name)


def method_name(row: Mapping) -> str:
    """The method of a speed experiment: who drafts and how much, what compresses.

    >>> method_name({"drafter": "draft_model", "schedule": "constant", "gamma": 4})
    'Draft model, γ = 4'
    """
    if not _given(row, "drafter"):
        if _given(row, "press"):
            return f"{press_setting(row)}, no drafter"
        same = not _given(row, "baseline") or row["baseline"] == row["model"]
        name = "Baseline against itself" if same else f"{str(row['model']).capitalize()} alone"
    else:
        name = f"{drafter_name(row)}, {tree_size(row) if is_tree(row) else schedule_name(row)}"
    if _given(row, "verification") and row["verification"] != ("traversal" if is_tree(row) else "token"):
        name += f", {row['verification']} verification"
    return name + (f" + {press_setting(row)}" if _given(row, "press") else "")


def press_setting(row: Mapping, prefix: str = "") -> str:
    """A press with how much it removes, and whether it goes on while decoding.

    >>> press_setting({"press": "snapkv", "ratio": 0.7})
    'SnapKV 70%'
    """
    name = press_name(row[f"{prefix}press"])
    if _given(row, f"{prefix}ratio"):
        name += f" {100 * row[f'{prefix}ratio']:.0f}%"
    if not prefix and _given(row, "cache_budget"):
        name += f" (budget {row['cache_budget']:.0f})"
    return name


def drafter_name(row: Mapping) -> str:
    """Who drafts; a draft model that is not the one called draft is named, and so is the press of its cache."""
    name = row["drafter"]
    shown = upper_first(_nested_name(drafter_of(row)))
    if _given(row, "draft_model") and row["draft_model"] != {"draft_model": "draft", "feature_head": "head"}.get(name):
        shown += f" ({row['draft_model']})"
    if name == "cascade" and not is_cascade_of_models(row):
        nested = json.loads(row["drafter_parameters"])["drafter"]["name"]
        shown += f" on {DRAFTERS.get(nested, nested).lower()}"
    if name == "quantized_target":
        shown += f", {quantization(row)}"
    if _given(row, "drafter_press"):
        shown += f", {'' if name == 'compressed_target' else 'draft on '}{press_setting(row, 'drafter_')}"
    return shown


def quantization(row: Mapping) -> str:
    """How a quantised copy holds its weights.

    >>> quantization({"drafter_parameters": '{"bits": 4, "group": 128, "symmetric": true}'})
    '4 bits, groups of 128, symmetric'
    """
    parameters = json.loads(row["drafter_parameters"]) if _given(row, "drafter_parameters") else {}
    how = [f"{parameters.get('bits', 4)} bits"]
    how += [f"groups of {parameters['group']}"] if "group" in parameters else []
    return ", ".join(how + (["symmetric"] if parameters.get("symmetric") else []))


def _nested_name(drafter: Mapping) -> str:
    """A drafter by its part of a study, in the middle of a sentence: a mixture by what it mixes."""
    name = drafter["name"]
    if name == "mixture":
        return " + ".join(map(_nested_name, drafter["drafters"])) + SHAPES.get(drafter.get("shape"), "")
    shown = DRAFTERS.get(name, str(name).replace("_", " "))
    children = f" with {drafter['children']} children" if drafter.get("children", 1) > 1 else ""
    before = "warm " if "warm" in drafter else ""
    return before + lower_first(shown) + children + SHAPES.get(drafter.get("shape"), "")


def is_tree(row: Mapping) -> bool:
    """Whether a method proposes trees."""
    return _given(row, "drafter") and branches(drafter_of(row))


def tree_size(row: Mapping) -> str:
    """How many tokens a tree has."""
    if _given(row, "gamma"):
        return counted_nodes(row["gamma"])
    parameters = json.loads(row["schedule_parameters"]) if _given(row, "schedule_parameters") else {}
    if row["schedule"] == "optimal_tree":
        return f"up to {counted_nodes(parameters.get('cap', 16))} while they pay"
    return schedule_name(row)


def counted_nodes(nodes: float) -> str:
    """So many nodes, in words that agree."""
    return f"{nodes:.0f} node{'' if nodes == 1 else 's'}"


def is_cascade_of_models(row: Mapping) -> bool:
    """Whether a cascade's own drafter is a model, as in the original study; also where the row does not say."""
    parameters = json.loads(row["drafter_parameters"]) if _given(row, "drafter_parameters") else {}
    return parameters.get("drafter", {}).get("name", "draft_model") == "draft_model"


def schedule_name(row: Mapping) -> str:
    """How many tokens are drafted."""
    if _given(row, "gamma"):
        return f"γ = {int(row['gamma'])}"
    if not _given(row, "schedule"):
        return "default γ"
    parameters = json.loads(row["schedule_parameters"]) if _given(row, "schedule_parameters") else {}
    name = SCHEDULES.get(row["schedule"], str(row["schedule"]).replace("_", " "))
    start = f" from γ = {parameters['initial']}" if "initial" in parameters else ""
    return name + start


def sampling_name(row: Mapping) -> str:
    """How tokens are chosen: greedily, or with which temperature and nucleus.

    >>> sampling_name({"temperature": 0.85, "top_p": 0.9})
    'temperature 0.85, top-p 0.9'
    """
    if not _given(row, "temperature"):
        return str(row["sampling"]) if _given(row, "sampling") else "default sampling"
    if row["temperature"] == 0:
        return "greedy"
    parts = [f"temperature {row['temperature']:g}"]
    if _given(row, "top_k") and row["top_k"]:
        parts.append(f"top-k {int(row['top_k'])}")
    if _given(row, "top_p") and row["top_p"] != 1:
        parts.append(f"top-p {row['top_p']:g}")
    return ", ".join(parts)


def sampling_prose(row: Mapping) -> str:
    """How tokens are chosen, as a phrase that says when something holds.

    >>> sampling_prose({"temperature": 0.85, "top_p": 0.9})
    'at temperature 0.85 and top-p 0.9'
    """
    name = sampling_name(row)
    return (
        f"at {' and '.join(name.split(', '))}"
        if name.startswith("temperature")
        else f"with {name.removesuffix(' sampling')} decoding"
    )


def is_sampling(row: Mapping) -> bool:
    """Whether tokens are drawn, and not chosen greedily."""
    return not _given(row, "temperature") or row["temperature"] != 0


def is_only_sampling(rows: Iterable[Mapping]) -> bool:
    """Whether these rows are drawn in one way at most, so that prose need not say in which."""
    return len({sampling_name(row) for row in rows if is_sampling(row)}) < 2


def _given(row: Mapping, key: str) -> bool:
    value = row.get(key)
    return value is not None and not pd.isna(value)
