"""What things are called in the paper: methods, schedules, drafters, presses and sampling, from the factors of a row.

Plain text, not LaTeX: the figures use it as it is, the tables escape it.
"""

import json
from collections.abc import Mapping

import pandas as pd

PRESSES = {
    "streaming_llm": "StreamingLLM",
    "knorm": "Knorm",
    "snapkv": "SnapKV",
    "tova": "TOVA",
    "keydiff": "KeyDiff",
    "expected_attention": "Expected attention",
}
DATA = {"wikipedia": "Wikipedia", "bible": "King James Bible", "wikitext": "WikiText-2", "pg19": "PG-19"}
ARTICLES = {"bible": "the "}  # names that prose does not use without an article
DRAFTERS = {"draft_model": "Speculative", "prompt_lookup": "Prompt lookup"}
SCHEDULES = {"aimd": "AIMD", "heuristic": "heuristic", "confidence": "confidence", "optimal": "optimal"}


def press_name(name: str) -> str:
    """The name of a press as its authors write it; an unlisted one as the configuration does, without underscores."""
    return PRESSES.get(name, name.replace("_", " "))


def data_name(name: str) -> str:
    """The name of a data set, likewise."""
    return DATA.get(name, name.replace("_", " "))


def data_prose(name: str) -> str:
    """The name of a data set inside a sentence.

    >>> data_prose("bible")
    'the King James Bible'
    """
    return ARTICLES.get(name, "") + data_name(name)


def method_name(row: Mapping) -> str:
    """The method of a speed experiment: who drafts and how much, what compresses.

    >>> method_name({"drafter": "draft_model", "schedule": "constant", "gamma": 4})
    'Speculative, γ = 4'
    """
    if not _given(row, "drafter"):
        same = not _given(row, "baseline") or row["baseline"] == row["model"]
        name = "Baseline against itself" if same else f"{str(row['model']).capitalize()} alone"
    else:
        name = f"{drafter_name(row)}, {schedule_name(row)}"
    if _given(row, "verification") and row["verification"] != "token":
        name += f", {row['verification']} verification"
    if _given(row, "press"):
        name += f" + {press_name(row['press'])}"
        if _given(row, "ratio"):
            name += f" {100 * row['ratio']:.0f}%"
    return name


def drafter_name(row: Mapping) -> str:
    """Who drafts."""
    name = row["drafter"]
    return DRAFTERS.get(name, str(name).replace("_", " ").capitalize())


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


def _given(row: Mapping, key: str) -> bool:
    value = row.get(key)
    return value is not None and not pd.isna(value)
