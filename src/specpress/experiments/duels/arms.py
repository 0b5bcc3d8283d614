"""An arm: one way of decoding, built from its part of a spec."""

from collections.abc import Callable

from torch import Tensor

from specpress.decoding.generate import prepare
from specpress.decoding.generation import Decoding, Generation
from specpress.experiments.assets import Assets
from specpress.presses import get_press
from specpress.study.registry import DRAFTERS, PROTOCOLS, SCHEDULES, resolve

# What an arm may say; everything else in a spec is common to all arms of the experiment.
ARM_KEYS = (
    "model", "protocol", "drafter", "schedule", "verification", "press", "cache_budget", "compression_interval",
)  # fmt: skip
_CONSTANT = {"name": "constant"}

Arm = Callable[..., Decoding]


def arm_of(spec: dict, **changes) -> dict:
    """The part of a spec that describes its method."""
    return {key: spec[key] for key in ARM_KEYS if key in spec} | changes


def build(arm: dict, assets: Assets) -> Arm:
    """A function (tokens, **options of `generate`) that makes a generation as `arm` says, before its first part.

    Drafter and schedule are fresh: each belongs to one generation.
    """
    model = assets.model(arm["model"])
    if "protocol" in arm:
        uncached = resolve(PROTOCOLS, arm["protocol"]["name"], "protocol")
        options = {key: value for key, value in arm["protocol"].items() if key != "name"}
        if "drafter_model" in options:
            options["drafter_model"] = assets.model(options["drafter_model"])
        return lambda tokens, **common: uncached(model, tokens, **options, **common)

    def make(tokens: Tensor, **common) -> Decoding:
        return prepare(model, tokens, **parts_of(arm, assets), **common)

    return make


def parts_of(arm: dict, assets: Assets) -> dict:
    """The options of `generate` that are an arm: drafter, schedule, verification, press; fresh, for one generation.

    assets : whatever has `model(name)`
    """
    return {**_speculation(arm, assets), **_compression(arm)}


def _speculation(arm: dict, assets: Assets) -> dict:
    if "drafter" not in arm:
        return {}
    return {
        "drafter": _drafter(arm["drafter"], arm["model"], assets),
        "schedule": _named(arm.get("schedule", _CONSTANT), SCHEDULES, "schedule"),
        "verification": arm.get("verification", "token"),
    }


def _drafter(part: dict, target: str, assets: Assets):
    """A drafter for the model called `target` with the models, text, press and inner drafters that its part names."""
    made, inner_target = dict(part), part.get("intermediate_model", target)
    for key in ("model", "intermediate_model", "head"):
        if key in made:
            made[key] = assets.model(made[key])
    if "press" in made:
        made["press"] = get_press(**made["press"])
    if "drafter" in made:
        made["drafter"] = _drafter(made["drafter"], inner_target, assets)
    if "drafters" in made:
        made["drafters"] = [_drafter(inner, target, assets) for inner in made["drafters"]]
    for key, make in getattr(resolve(DRAFTERS, part["name"], "drafter"), "of_text", {}).items():
        if key in made:
            made[key] = assets.of_text(make, made[key], target)
    return _named(made, DRAFTERS, "drafter")


def _named(part: dict, table: dict[str, str], what: str):
    """An instance of the class that a part names, with its other keys as arguments."""
    return resolve(table, part["name"], what)(**{key: value for key, value in part.items() if key != "name"})


def _compression(arm: dict) -> dict:
    if "press" not in arm:
        return {}
    options = {key: arm[key] for key in ("cache_budget", "compression_interval") if key in arm}
    return {"press": get_press(**arm["press"]), **options}


def figures(generation: Generation) -> dict:
    """The metrics of a generation and its trace, for JSON."""
    found = {**generation.metrics(), "trace": generation.trace.columns()}
    if found["tpot_ms"] is None:
        found["why"] = "the text ended after its first token: there is no time per token"
    return found


def counts(generation: Generation) -> dict:
    """The same of a row that was decoded in a batch: what was counted, and no times, which are the batch's."""
    found = {**figures(generation), **dict.fromkeys(("ttft_s", "tpot_ms", "tokens_per_s"))}
    return found | {"why": "decoded in a batch, to count its rounds: it has no times of its own"}
