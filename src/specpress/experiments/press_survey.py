"""Run every press on a small model of each family and put down what it did: the table of docs/presses.md."""

import logging

import torch

from specpress.decoding.generate import generate
from specpress.models.build import random_model
from specpress.models.families import FAMILIES
from specpress.presses import get_press, list_presses
from specpress.study.abilities import EVICTS, REFUSED

PROMPT, BUDGET, INTERVAL = 60, 20, 8  # tokens, slots, tokens

# Parameters that let a press act on a prompt of 60 tokens; those not named take a ratio of 0.5, wrappers Knorm inside.
EXAMPLES = {
    "chunk": {"press": "knorm", "chunk_length": 16},
    "chunkkv": {"press": "knorm", "chunk_length": 10},
    "compactor": {"sink_size_start": 2, "sink_size_end": 2},
    "composed": {"presses": [{"name": "knorm", "compression_ratio": 0.3}, {"name": "tova", "compression_ratio": 0.3}]},
    "dms": {"press": "random", "threshold": 0.5, "sliding_window_size": 8},
    "hybrid": {"window_size": 8},
    "lagkv": {"lag_size": 8},
    "optimized_hybrid": {"window_size": 8},
    "per_layer_compression": {"press": "knorm", "compression_ratios": [0.2, 0.6]},
    "pyramidkv": {"window_size": 8, "beta": 2},
    "simlayerkv": {"n_recent": 10, "lazy_threshold": 0.0},
    "snapkv": {"window_size": 8},
    "think": {"key_channel_compression_ratio": 0.5, "window_size": 8},
}
_NO_RATIO = {"composed", "dms", "per_layer_compression", "simlayerkv", "think"}


def example(name: str, compression_ratio: float = 0.5):
    """The press called `name` with parameters for a short prompt; `_NO_RATIO` presses take no ratio."""
    params = EXAMPLES.get(name, {})
    if list_presses()[name]["wraps"] and not params:
        params = {"press": "knorm"}
    return get_press(name, compression_ratio=0.0 if name in _NO_RATIO else compression_ratio, **params)


def rows() -> list[dict[str, str]]:
    """A row for each press: "press", "class", "runs on", "keeps", "while decoding", "notes"."""
    logging.getLogger("kvpress").setLevel(logging.ERROR)  # kvpress warns of flash attention, which is not used
    models = [
        random_model(
            {"architecture": family, "hidden_size": 64, "layers": 2, "heads": 4, "seed": 0}, dtype=torch.float32
        )[0]
        for family in FAMILIES
    ]
    return [{"press": f"`{name}`", "class": info["class"], **_row(name, info, models)} for name, info in _known()]


def _known():
    return list_presses().items()


def _row(name: str, info: dict, models: list) -> dict[str, str]:
    if info["status"] == REFUSED:
        return {"runs on": "no model here", "keeps": "", "while decoding": "", "notes": f"it {info['reason']}"}
    notes = [info["reason"]] if info["reason"] else []
    notes += ["the prompt is read with eager attention"] if info["eager"] else []
    notes += ["takes other presses"] if info["wraps"] else []
    kept = [_slots(model, name) for model in models]
    again = info["status"] == EVICTS
    if again:
        kept_again = [_slots(model, name, cache_budget=BUDGET, compression_interval=INTERVAL) for model in models]
        assert kept_again == [[BUDGET] * 2] * len(models), f"{name} kept {kept_again} slots under a budget of {BUDGET}"
    return {
        "runs on": "every family",
        "keeps": " or ".join(sorted({_words(slots) for slots in kept})),
        "while decoding": "yes" if again else "no",
        "notes": "; ".join(notes),
    }


def _slots(model, name: str, **budget) -> list[int]:
    """Slots of each layer after a compression: the first token comes from the prompt, and is not in the cache yet."""
    prompt = torch.arange(PROMPT)[None] * 7 % 251
    tokens = 1 + 2 * INTERVAL + 1 if budget else 1
    trace = generate(model, prompt, max_new_tokens=tokens, press=example(name), **budget).trace
    fed_since = 1 if budget else 0
    return [slots - fed_since for slots in trace.layer_slots]


def _words(slots: list[int]) -> str:
    least, most = min(slots), max(slots)
    if least == PROMPT:
        return f"all {PROMPT} slots"
    return f"{least} of {PROMPT} slots" if least == most else f"{least} to {most} of {PROMPT} slots"


def table() -> str:
    """The rows as a Markdown table."""
    found = rows()
    lines = [list(found[0]), ["---"] * len(found[0]), *(list(row.values()) for row in found)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
