"""What was varied: the columns that say which experiment, and which setting of it, a row belongs to."""

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd

FACTORS = [
    "kind",
    "baseline",
    "model",
    "data",
    "category",
    "categories",
    "batch",
    "drafter",
    "draft_model",
    "drafter_press",
    "drafter_ratio",
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
    "mode",
    "task",
    "task_parameters",
    "cache_budget",
    "compression_interval",
    "decoding_interval",
    "step",
    "step_number",
    "step_title",
    "prompts",
    "prompt_tokens",
    "prompt_limit",
    "max_new_tokens",
    "precision",
    "budget_seconds",
    "repeats",
    "context",
    "score",
    "passages",
    "samples",
    "bar",
    "chat",
    "answer_tokens",
]
INTEGERS = (
    "batch", "categories", "gamma", "cache_budget", "compression_interval", "decoding_interval", "step_number",
    "prompts", "prompt_tokens", "prompt_limit", "max_new_tokens", "repeats", "context", "score", "passages",
    "samples", "answer_tokens",
)  # fmt: skip
PLAIN = (
    "baseline", "model", "data", "verification", "batch", "cache_budget", "compression_interval", "decoding_interval",
    "prompt_tokens", "max_new_tokens", "precision", "budget_seconds", "repeats", "context", "score", "passages",
    "samples", "bar", "chat", "answer_tokens",
)  # fmt: skip


def factors(item: Mapping) -> dict:
    """The factors of one experiment, flat; those that vary within it (batch, ratio, step, task) are set row by row.

    `prompts` is how many were measured: the spec says how many it may be.
    """
    spec = item["spec"]
    sampling, drafter = spec.get("sampling") or {}, spec.get("drafter") or {}
    schedule, press = spec.get("schedule") or {}, spec.get("press") or {}
    drafter_press = drafter.get("press") or {}
    flat = {key: spec[key] for key in PLAIN if np.isscalar(spec.get(key))}
    flat |= {
        "kind": item["kind"],
        "prompts": item["ended"]["prompts"] if "ended" in item else None,
        **_of_questions(item),
        "drafter": drafter.get("name"),
        "draft_model": drafter.get("model", drafter.get("head")),
        "drafter_press": drafter_press.get("name"),
        "drafter_ratio": drafter_press.get("compression_ratio"),
        "drafter_parameters": _parameters(drafter, "name", "model", "head", "press"),
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


def _of_questions(item: Mapping) -> dict:
    """Of prompts that are questions, which differ in length: how many categories, their mean length and its limit."""
    runs = [run for run in item.get("runs") or () if run.get("category") is not None]
    if not runs:
        return {}
    mean = round(sum(run["prompt_tokens"] for run in runs) / len(runs))
    categories = len({run["category"] for run in runs})
    return {"categories": categories, "prompt_tokens": mean, "prompt_limit": item["spec"]["prompt_tokens"]}


def prompt_lengths(rows: pd.DataFrame) -> pd.Series:
    """What experiments on the same prompts share: the length of their prompts, or the most that a question may have."""
    return rows.prompt_limit.fillna(rows.prompt_tokens)


def _parameters(part: Mapping, *without: str) -> str | None:
    """The remaining parameters of a drafter, schedule or press, as one canonical JSON string."""
    rest = {key: value for key, value in part.items() if key not in without}
    return json.dumps(rest, sort_keys=True) if rest else None
