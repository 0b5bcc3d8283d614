"""Memory an experiment needs, estimated from the sizes of its models before any of them is loaded. No torch."""

from collections.abc import Mapping
from math import inf

from specpress.study import expansion
from specpress.study.expansion import models_of

GRAPHS_BYTES = 1_000_000_000  # of recorded steps, their results and the libraries' workspaces, on one GPU
TASK_TOKENS = 128  # about as many as a task's question and its answer take


def largest(spec: dict) -> tuple[int, int]:
    """(batch, tokens of a sequence) at which an experiment's KV cache is largest."""
    batch = max([spec.get("batch", 1), *spec.get("batches", [])])
    lengths = [
        spec.get("prompt_tokens", 0) + spec.get("max_new_tokens", 0),
        spec.get("context", 0) + spec.get("score", 0),
        spec["context"] + TASK_TOKENS if spec.get("kind") == "tasks" else 0,
        *(context + spec["steps"] for context in spec.get("contexts", [])),
    ]
    return batch, max(lengths)


def estimate(spec: dict, sizes: Mapping[str, dict], device: str) -> dict[str, int]:
    """Bytes by purpose: weights and KV cache of each model, and the activations of the largest prefill.

    Parameters
    ----------
    spec : dict, an experiment as `specpress.study.load.load_study` expands it
    sizes : {name: its size}, with `dtype`, `weight_bytes`, `step_weight_bytes` and `kv_bytes_per_token` as in a model's
        manifest.json
    device : where the experiment runs; on the "cpu" decoding has its own copy of bfloat16 weights, see
        `specpress.engine.linear`

    Returns
    -------
    dict, {"weights of target": bytes, ...}. For how many caches count see `caches`.
    """
    batch, tokens = largest(spec)
    parts = {}
    for name in models_of(spec):
        size = sizes[name]
        copies = caches(spec, name, device)
        parts[f"weights of {name}"] = size["weight_bytes"]
        if device == "cpu" and size.get("dtype") == "bfloat16":
            parts[f"packed weights of {name}"] = size["step_weight_bytes"]
        cache = min(batch * tokens * size["kv_bytes_per_token"], spec.get("max_kv_bytes", inf))
        parts[f"KV cache of {name}, {copies} x {batch} x {tokens} tokens"] = copies * cache
        if shown := _shown_bytes(spec, size):
            at_once = cache / size["kv_bytes_per_token"]  # tokens
            parts[f"hidden states of {name} that presses are shown"] = int(at_once * shown)
    for name, bits in quantized_copies(spec):
        stored = sizes[name]["step_weight_bytes"] * (bits + 1) // 16  # a scale and an offset for 32 numbers: a bit each
        parts[f"weights of {name} in {bits} bits, as they are and packed"] = 2 * stored
    # a forward keeps a few times one layer's hidden states; a layer's keys and values measure them
    wide = max(sizes[name]["kv_bytes_per_token"] / sizes[name]["layers"] for name in models_of(spec))
    parts["activations of a prefill"] = int(12 * wide * batch * tokens)
    if device.startswith("cuda"):
        parts["CUDA graphs"] = GRAPHS_BYTES
    return parts


def _shown_bytes(spec: dict, size: Mapping) -> int:
    """Bytes a token of what the layers are given, kept while a prompt is read for presses that look at it.

    Of tasks `caches` counts them as caches, which are smaller where KV heads are few.
    """
    pressed = bool(spec.get("presses")) or any(what == "press" for _, what, _ in expansion.parts(spec))
    number = 4 if size.get("dtype") == "float32" else 2
    shown = number * size["layers"] * size.get("hidden_size", 0) if pressed else 0
    if spec.get("kind") == "tasks":
        return len(spec["modes"]) * max(0, shown - size["kv_bytes_per_token"])
    return shown


def caches(spec: dict, name: str, device: str) -> int:
    """KV caches of a model that are held at once.

    The model that generates has two: presses work on a copy, and a duel has the baseline's and the method's. Where
    steps are graphs, a new cache moves into buffers that the last one left: one more. Perplexity has the prompt read by
    fused attention, again by one that gives weights, and a copy for every point of its curve. Tasks have one a mode, as
    much again of what was observed beside it, and a copy that a press compresses.
    """
    if spec.get("kind") == "perplexity" and name == spec.get("baseline") != spec.get("model"):
        return 1
    if spec.get("kind") == "perplexity":
        pruned = sum(ratio > 0 for ratio in spec["ratios"])
        return 2 + len(spec["ratios"]) + ("decoding_interval" in spec) * pruned
    if spec.get("kind") == "tasks":
        return 1 + 2 * len(spec["modes"])
    generates = name in (spec.get("model"), spec.get("baseline"))
    return (2 if generates else 1) + device.startswith("cuda")


def quantized_copies(spec: dict, model: str | None = None) -> list[tuple[str, int]]:
    """(model, bits) of the copies that drafters make of the models that verify, at any depth.

    model : the one that verifies, unless the spec says so
    """
    model, drafter = spec.get("intermediate_model", spec.get("model", model)), spec.get("drafter")
    steps = spec.get("steps")  # of a chain; a number in a regime map
    inner = [part for part in (drafter, *(steps if isinstance(steps, list) else ())) if part]
    own = [(model, drafter.get("bits", 4))] if drafter and drafter.get("name") == "quantized_target" else []
    return sorted({*own, *(found for part in inner for found in quantized_copies(part, model))})


def require(spec: dict, sizes: Mapping[str, dict], free_bytes: int, device: str) -> None:
    """Refuse an experiment that cannot fit.

    Raises
    ------
    ValueError
        With what is needed, part by part, and what there is.
    """
    parts = estimate(spec, sizes, device)
    needed = sum(parts.values())
    if needed > free_bytes:
        lines = "\n".join(f"  {gigabytes(size):>10}  {what}" for what, size in parts.items())
        raise ValueError(
            f"needs about {gigabytes(needed)} of memory, {device} has {gigabytes(free_bytes)} free:\n{lines}\n"
            "take smaller models, shorter contexts, smaller batches or a device with more memory"
        )


def gigabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.2f} GB"
