"""An arm: one way of decoding, built from its part of a spec, and run in turn with others on the same prompts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor
from tqdm import tqdm

from specpress.data.documents import Passage
from specpress.decoding.generate import Generation, generate
from specpress.engine.graphs import has_graphs
from specpress.experiments.assets import Assets, as_batch
from specpress.hardware.clock import no_garbage_collection
from specpress.laws.sampling import SamplingParams
from specpress.presses import get_press
from specpress.study.registry import DRAFTERS, PROTOCOLS, SCHEDULES, resolve

# What an arm may say; everything else in a spec is common to all arms of the experiment.
ARM_KEYS = (
    "model", "protocol", "drafter", "schedule", "verification", "press", "cache_budget", "compression_interval",
)  # fmt: skip
_CONSTANT = {"name": "constant"}
_WARM_UP_PROMPT, _WARM_UP_TOKENS = 512, 8  # enough for a first forward of each kind; a long prompt takes seconds

Arm = Callable[..., Generation]


@dataclass(frozen=True)
class Run:
    """One prompt (a batch of passages) decoded by every arm; `generations` in the order of the arms."""

    prompt: int
    repeat: int
    seed: int
    passages: list[Passage]
    generations: list[Generation]

    def where(self) -> dict:
        """The columns of the metrics file that say which prompt this was. A batch goes by its first passage."""
        first = self.passages[0]
        return {
            "prompt": self.prompt,
            "document": first.document,
            "offset": first.offset,
            "repeat": self.repeat,
            "seed": self.seed,
            "prompt_tokens": len(first.tokens),
        }


def arm_of(spec: dict, **changes) -> dict:
    """The part of a spec that describes its method."""
    return {key: spec[key] for key in ARM_KEYS if key in spec} | changes


def build(arm: dict, assets: Assets) -> Arm:
    """A function (tokens, **options of `generate`) that decodes as `arm` says, with fresh drafter and schedule."""
    model = assets.model(arm["model"])
    if "protocol" in arm:
        uncached = resolve(PROTOCOLS, arm["protocol"]["name"], "protocol")
        options = {key: value for key, value in arm["protocol"].items() if key != "name"}
        if "drafter_model" in options:
            options["drafter_model"] = assets.model(options["drafter_model"])
        return lambda tokens, **common: uncached(model, tokens, **options, **common)

    def run(tokens: Tensor, **common) -> Generation:
        return generate(model, tokens, **_speculation(arm, assets), **_compression(arm), **common)

    return run


def _speculation(arm: dict, assets: Assets) -> dict:
    """Fresh drafter and schedule: each belongs to one `generate` call."""
    if "drafter" not in arm:
        return {}
    return {
        "drafter": _drafter(arm["drafter"], assets),
        "schedule": _named(arm.get("schedule", _CONSTANT), SCHEDULES, "schedule"),
        "verification": arm.get("verification", "token"),
    }


def _drafter(part: dict, assets: Assets):
    """A drafter with the models, the press and the inner drafter that its part names."""
    made = dict(part)
    for key in ("model", "intermediate_model"):
        if key in made:
            made[key] = assets.model(made[key])
    if "press" in made:
        made["press"] = get_press(**made["press"])
    if "drafter" in made:
        made["drafter"] = _drafter(made["drafter"], assets)
    return _named(made, DRAFTERS, "drafter")


def _named(part: dict, table: dict[str, str], what: str):
    """An instance of the class that a part names, with its other keys as arguments."""
    return resolve(table, part["name"], what)(**{key: value for key, value in part.items() if key != "name"})


def _compression(arm: dict) -> dict:
    if "press" not in arm:
        return {}
    options = {key: arm[key] for key in ("cache_budget", "compression_interval") if key in arm}
    return {"press": get_press(**arm["press"]), **options}


def run_in_turn(spec: dict, arms: list[Arm], assets: Assets) -> Iterator[Run]:
    """Decode every prompt with every arm, one after the other; which arm goes first moves on with every prompt.

    The warm-up decodes a few tokens; with CUDA graphs a whole prompt, so that the steps that come are captured by then.
    Garbage collection is off while an arm runs. End of text stops single sequences; a batch always runs to
    `max_new_tokens`, so that its rows keep their number.
    """
    model, tokenizer = assets.model(spec["model"]), assets.tokenizer(spec["model"])
    rows = spec.get("batch", 1)
    passages = assets.passages(spec, count=spec["prompts"] * rows, length=spec["prompt_tokens"], tokenizer=tokenizer)
    prompts = [passages[i : i + rows] for i in range(0, len(passages), rows)]
    settings = {key: value for key, value in spec["sampling"].items() if key != "name"}
    options = {"eos_token_id": tokenizer.eos_token_id if rows == 1 else None, "max_new_tokens": spec["max_new_tokens"]}
    if has_graphs(model):  # captures belong to a length: they should fall before the timing
        _warm_up(arms, as_batch(prompts[0], model), settings, options)
    else:
        short = {"max_new_tokens": min(_WARM_UP_TOKENS, options["max_new_tokens"])}
        _warm_up(arms, as_batch(prompts[0], model)[:, -_WARM_UP_PROMPT:], settings, options | short)
    order = [(repeat, index) for repeat in range(spec["repeats"]) for index in range(len(prompts))]
    for number, (repeat, index) in enumerate(tqdm(order, desc=spec["id"], unit="prompt", mininterval=5)):
        tokens, sampling = as_batch(prompts[index], model), SamplingParams(**settings, seed=_seed(spec, repeat, index))
        generations = {}
        for turn in range(len(arms)):
            which = (number + turn) % len(arms)
            with no_garbage_collection():
                generations[which] = arms[which](tokens, sampling=sampling, **options)
        in_order = [generations[which] for which in range(len(arms))]
        yield Run(index, repeat, sampling.seed, prompts[index], in_order)


def _seed(spec: dict, repeat: int, index: int) -> int:
    return spec["seed"] + 1000 * repeat + index


def _warm_up(arms: list[Arm], tokens: Tensor, settings: dict, options: dict) -> None:
    for arm in arms:
        arm(tokens, sampling=SamplingParams(**settings), **options)


def figures(generation: Generation) -> dict:
    """The metrics of a generation and its trace, for JSON."""
    found = {**generation.metrics(), "trace": generation.trace.columns()}
    if found["tpot_ms"] is None:
        found["why"] = "the text ended after its first token: there is no time per token"
    return found
