"""Time and memory of experiments on a named GPU, estimated from the shapes of their models alone.

Times come from the roofline of `specpress.theory.roofline`, with the published peaks of the GPU, discounted. No torch.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from specpress.study.draft_config import DraftConfig
from specpress.study.expansion import models_of
from specpress.study.load import Study
from specpress.study.memory import TASK_TOKENS, estimate
from specpress.theory.expected import expected_tokens
from specpress.theory.roofline import MachineRates, ModelShape, roofline_step_ms
from specpress.theory.shapes import Shape, shape_of, stated_shape

ACCEPTANCE = 0.6  # of a drafted token: what a draft gets on another model's text, before it is measured
BANDWIDTH_SHARE, COMPUTE_SHARE = 0.7, 0.5  # of the published peaks that plain PyTorch reaches
# Measured on an H200 (docs/performance.md).
LAYER_MS = 0.045  # of a step as a CUDA graph beside what it reads and computes: kernels too small to fill a GPU
EAGER_LAYER_MS = 0.28  # launching the kernels of a layer one by one
GRAPHED_QUERIES = 17  # tokens a row at most of a step as a graph: `specpress.engine.graphs.MAX_QUERIES`
START_SECONDS = 30  # of a job: Python, torch, the first kernels
_BASELINE_BESIDE = 2  # times a generation of the baseline: its steps between the parts of a duel
ANSWERS = 2  # things that the answer to a task has to contain, in the middle
READ_GB_S = 1.0  # weights from disk to device

# Published peaks: GB of memory, GB/s, TFLOP/s (dense, 16 bits).
GPUS = {
    "t4": (16, 320, 65),
    "v100": (32, 900, 125),
    "rtx-3090": (24, 936, 71),
    "rtx-4090": (24, 1008, 165),
    "l4": (24, 300, 121),
    "l40s": (48, 864, 362),
    "a100-40gb": (40, 1555, 312),
    "a100-80gb": (80, 2039, 312),
    "h100": (80, 3350, 989),
    "h200": (141, 4800, 989),
}


@dataclass(frozen=True)
class Machine:
    """A GPU by its published peaks, and whether decoding steps run there as graphs."""

    name: str
    memory_bytes: float
    gb_s: float
    tflops: float
    graphs: bool = True


@dataclass(frozen=True)
class Model:
    """A model by its shape and what its numbers are held in."""

    shape: Shape
    dtype: str
    weights: str | None = None

    @property
    def size(self) -> dict[str, int]:
        """As in a model's manifest.json."""
        return self.shape.size(self.dtype, self.weights)


@dataclass(frozen=True)
class Job:
    """An experiment or a training: the memory it needs on the device and its hours; None where that cannot be told."""

    name: str
    kind: str
    memory_bytes: int | None
    hours: float | None


def machine(name: str, *, graphs: bool = True) -> Machine:
    """A GPU by its name; `graphs` : whether decoding steps run there as graphs.

    Raises
    ------
    ValueError
        If the name is unknown; the message lists the known ones.
    """
    if name not in GPUS:
        raise ValueError(f"unknown GPU {name!r}; known: {', '.join(GPUS)}")
    memory, gb_s, tflops = GPUS[name]
    return Machine(name, memory * 1e9, gb_s, tflops, graphs)


def models(study: Study) -> dict[str, Model | None]:
    """Every model and draft by its shape: as stated, from its config.json, or of its random source; else None."""
    found = {name: _model(entry) for name, entry in study.models.items()}
    for name in study.drafts:
        draft = draft_config(study, name)
        found[name] = _draft(found[draft.target], draft)
    return found


def draft_config(study: Study, name: str) -> DraftConfig:
    """How a draft of the study is made, defaults included."""
    return DraftConfig.from_spec({"name": name, **study.drafts[name]})


def _model(entry: dict) -> Model | None:
    source, held = entry["source"], (entry.get("dtype", "bfloat16"), entry.get("weights"))
    if "shape" in entry:
        return Model(stated_shape(entry["shape"]), *held)
    if source["kind"] == "random":
        return Model(stated_shape(source, vocabulary=257), *held)  # bytes and the end of text
    config = Path(source.get("path", "")) / "config.json"
    if source["kind"] == "path" and config.is_file():
        return Model(shape_of(json.loads(config.read_text(encoding="utf-8"))), *held)
    return None


def _draft(target: Model | None, draft: DraftConfig) -> Model | None:
    if target is None:
        return None
    shape = target.shape
    rows = min(draft.vocabulary, shape.vocabulary)
    own = {"layers": draft.layers, "head_rows": rows, "tied": False}
    own["intermediate_size"] = min(draft.mlp_width or shape.intermediate_size, shape.intermediate_size)
    own["feature_layers"] = (len(draft.features) or 1) if draft.kind == "head" else 0
    return Model(Shape(**{**vars(shape), **own}), target.dtype)


def step_ms(model: Model, on: Machine, *, batch: int = 1, slots: float = 0, queries: int = 1) -> float:
    """Milliseconds of one forward of `queries` tokens a row on a cache of `slots` slots."""
    rate = {1: on.gb_s * BANDWIDTH_SHARE}
    layer_ms = LAYER_MS if on.graphs and queries <= GRAPHED_QUERIES else EAGER_LAYER_MS
    rates = MachineRates(rate, rate, on.tflops * COMPUTE_SHARE * 1e3, layer_ms * model.shape.layers)
    return roofline_step_ms(ModelShape.from_manifest(model.size), rates, slots=slots, batch=batch, queries=queries)


def jobs(study: Study, on: Machine) -> list[Job]:
    """The experiments of a study, with what each takes."""
    known = models(study)
    return [job(spec, known, on) for spec in study.experiments.values()]


def job(spec: dict, known: Mapping[str, Model | None], on: Machine) -> Job:
    """One experiment, by its spec and the `models` of its study."""
    named = {name: known[name] for name in models_of(spec)}
    if None in named.values() or spec["kind"] not in _SECONDS:
        return Job(spec["id"], spec["kind"], None, None)
    sizes = {name: model.size for name, model in named.items()}
    start = START_SECONDS + sum(size["weight_bytes"] for size in sizes.values()) / READ_GB_S / 1e9
    seconds = start + _SECONDS[spec["kind"]](spec, named, on)
    return Job(spec["id"], spec["kind"], sum(estimate(spec, sizes, "cuda").values()), seconds / 3600)


def training(draft: DraftConfig, known: Mapping[str, Model | None], on: Machine) -> Job:
    """A draft to be trained, by its configuration and the `models` of its study.

    Six operations a trained parameter and token (Kaplan et al., 2020, section 2.1), or the launches of the kernels of
    three forwards (there and back) a step, whichever takes longer; before that the target reads the text of one pass,
    if the draft learns from it, and writes its share; then target and draft read what they are judged on.
    Memory: the target, the draft in float32, gradients and both moments of what is trained (all but its embeddings),
    34 bytes a token, layer and hidden unit of activations (Korthikanti et al., 2022, section 4.1), and the logits.
    """
    target, model = known[draft.target], known[draft.name]
    if target is None or model is None:
        return Job(draft.name, "training", None, None)
    shape, tokens = model.shape, draft.batch * draft.sequence
    steps = math.ceil(draft.tokens / tokens)
    arithmetic = 6 * shape.read_parameters * steps * tokens / (on.tflops * COMPUTE_SHARE * 1e12)
    launches = 3 * EAGER_LAYER_MS / 1e3 * shape.layers * steps
    windows = math.ceil(draft.evaluation / draft.sequence) * 2 * len(draft.data)  # validation and held-out text
    judged = sum(step_ms(each, on, queries=draft.sequence) for each in (target, model)) / 1e3 * windows
    if draft.needs_lesson:
        arithmetic += _lesson_seconds(draft, target, on)
    start = START_SECONDS + target.size["weight_bytes"] / READ_GB_S / 1e9
    memory = target.size["weight_bytes"] + 4 * shape.parameters + 12 * shape.read_parameters
    memory += tokens * (34 * shape.hidden_size * shape.layers + 12 * shape.vocabulary)
    return Job(draft.name, "training", memory, (start + max(arithmetic, launches) + judged) / 3600)


def _lesson_seconds(draft: DraftConfig, target: Model, on: Machine) -> float:
    """What the target takes to read a training text, 8 windows at a time, and to write its share, 64 at a time."""
    windows, length = draft.tokens / draft.passes / draft.sequence, draft.sequence
    reading = windows / 8 * step_ms(target, on, batch=8, queries=length)
    writing = draft.own_text * windows / 64 * length / 2 * step_ms(target, on, batch=64, slots=0.75 * length)
    return (reading + writing) / 1e3


def trainings(study: Study, on: Machine) -> list[Job]:
    """The drafts a study trains, with what each takes."""
    known = models(study)
    return [training(draft_config(study, name), known, on) for name in study.drafts]


# ------------------------------------------------------------------------------------------------- seconds of each kind


def _speed(spec: dict, known: Mapping[str, Model], on: Machine) -> float:
    return _duels(spec, [spec], known, on)


def _chain(spec: dict, known: Mapping[str, Model], on: Machine) -> float:
    return _duels(spec, [{"model": spec["model"], **arm} for arm in spec["steps"]], known, on)


def _duels(spec: dict, arms: list[dict], known: Mapping[str, Model], on: Machine) -> float:
    """The budget, unless the prompts run out before it or the fewest take longer: they are duelled in any case."""
    baseline = {"model": spec.get("baseline", spec["model"])}
    each = sum(_generation(arm, spec, known, on) for arm in arms)
    beside = len(arms) * _BASELINE_BESIDE * _generation(baseline, spec, known, on)
    least, most = spec["least_prompts"] * (each + beside), spec["most_prompts"] * (each + beside)
    return min(most, max(least, spec["budget_seconds"]))


def _perplexity(spec: dict, known: Mapping[str, Model], on: Machine) -> float:
    model, context, score = known[spec["model"]], spec["context"], spec["score"]
    seconds = step_ms(model, on, queries=context) / 1e3
    pruned = [ratio for ratio in spec["ratios"] if ratio > 0]
    rows = len(spec["ratios"]) + (len(pruned) if "decoding_interval" in spec else 0)
    blocks = max(1, score // spec.get("decoding_interval", 256))
    seconds += rows * blocks * step_ms(model, on, slots=context, queries=-(-score // blocks)) / 1e3
    return spec["passages"] * (
        seconds + 2 * len(pruned) * spec.get("timed_steps", 0) * step_ms(model, on, slots=context) / 1e3
    )


def _regime(spec: dict, known: Mapping[str, Model], on: Machine) -> float:
    model, gamma = known[spec["model"]], spec.get("gamma", 4)
    seconds = 0.0
    for context in spec["contexts"]:
        seconds += step_ms(model, on, queries=context) / 1e3
        seconds += spec.get("max_new_tokens", 0) * step_ms(model, on, slots=context) / 1e3
        for batch in spec["batches"]:
            kinds = 2 * step_ms(model, on, batch=batch, slots=context)
            kinds += step_ms(model, on, batch=batch, slots=context, queries=gamma + 1)
            seconds += spec["steps"] * kinds / 1e3
    return spec["repeats"] * seconds


def _tasks(spec: dict, known: Mapping[str, Model], on: Machine) -> float:
    """Every task on the full cache, and, as if it could do all, on every press, ratio and mode."""
    model, context, batch = known[spec["model"]], spec["context"], spec.get("batch", 1)
    pruned = len(spec["presses"]) * sum(ratio > 0 for ratio in spec["ratios"]) * len(spec["modes"])
    prefill = step_ms(model, on, batch=batch, queries=context)
    answer = step_ms(model, on, batch=batch, slots=context, queries=TASK_TOKENS // 2)
    answer += ANSWERS * spec["answer_tokens"] * step_ms(model, on, batch=batch, slots=context)
    batches = len(spec["tasks"]) * math.ceil(spec["samples"] / batch)
    return batches * (2 * prefill + (1 + pruned) * answer) / 1e3


_SECONDS: dict[str, Callable] = {
    "speed": _speed, "chain": _chain, "perplexity": _perplexity, "regime": _regime, "tasks": _tasks,
}  # fmt: skip


def _generation(arm: dict, spec: dict, known: Mapping[str, Model], on: Machine) -> float:
    """Seconds to decode one prompt with one method."""
    model, batch, new = known[arm["model"]], spec.get("batch", 1), spec["max_new_tokens"]
    slots = spec["prompt_tokens"] + new / 2
    prefill = step_ms(model, on, batch=batch, queries=spec["prompt_tokens"])
    if "protocol" in arm:  # no cache: every token reads its whole prefix again
        return new * step_ms(model, on, batch=batch, queries=int(slots)) / 1e3
    return (prefill + new * _token_ms(arm, model, known, on, batch, slots)) / 1e3


def _token_ms(arm: dict, model: Model, known: Mapping[str, Model], on: Machine, batch: int, slots: float) -> float:
    """Milliseconds of a token that `model` yields with the drafter of an arm."""
    if "drafter" not in arm:
        return step_ms(model, on, batch=batch, slots=slots)
    drafter, schedule = arm["drafter"], arm.get("schedule", {})
    gamma = schedule.get("gamma", schedule.get("initial", 4))
    draft = _draft_ms(drafter, model, known, on, batch, slots)
    verify = step_ms(model, on, batch=batch, slots=slots, queries=gamma + 1)
    return (gamma * draft + verify) / expected_tokens(ACCEPTANCE, gamma)


def _draft_ms(drafter: dict, target: Model, known: Mapping[str, Model], on: Machine, batch: int, slots: float) -> float:
    """Milliseconds of a drafted token."""
    if "intermediate_model" in drafter:
        inner = {"drafter": drafter["drafter"], "schedule": {"gamma": drafter.get("gamma", 4)}}
        return _token_ms(inner, known[drafter["intermediate_model"]], known, on, batch, slots)
    if named := drafter.get("model", drafter.get("head")):
        return step_ms(known[named], on, batch=batch, slots=slots)
    if drafter.get("name") == "quantized_target":
        return step_ms(replace(target, weights=f"q{drafter.get('bits', 4)}"), on, batch=batch, slots=slots)
    if "press" in drafter:
        return step_ms(target, on, batch=batch, slots=slots * (1 - drafter["press"].get("compression_ratio", 0)))
    return 0.0
