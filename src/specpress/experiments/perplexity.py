"""Quality: the perplexity of text that follows a compressed context, what the cache takes, and how fast a step is.

The acceptance beside it is what self-speculation on such a cache would see: the overlap of its laws with the full
cache's. Instead of a press a model may be set beside another, its `baseline`: what its weights cost.
"""

import statistics
from dataclasses import dataclass

from tqdm import tqdm

from specpress.data.documents import Passage
from specpress.decoding.brackets import COLUMNS
from specpress.decoding.perplexity import Perplexity, perplexities
from specpress.experiments.assets import Assets, as_batch
from specpress.hardware.clock import no_garbage_collection
from specpress.presses import Compression, get_press

ONCE, DECODING = "once", "decoding"
_PER_PASSAGE = ("nll", "n_tokens", "acceptance")


@dataclass(frozen=True)
class Point:
    """A point of the curve: a share of the cache removed, once after the context or also while decoding."""

    ratio: float
    mode: str

    def compression(self, spec: dict) -> Compression:
        """Compressing that far; while decoding, to the slots that the ratio leaves of the context."""
        if self.ratio == 0:
            return Compression()
        from kvpress.utils import compute_n_kept  # which takes seconds to import

        press = get_press(compression_ratio=self.ratio, **spec["press"])
        if self.mode == ONCE:
            return Compression(press)
        budget = compute_n_kept(spec["context"], self.ratio)
        return Compression(press, budget, spec["decoding_interval"])


def measure(spec: dict, assets: Assets) -> dict:
    """One value a passage for every point of the curve; one prefill serves all points."""
    points = _points(spec)
    settings = [point.compression(spec) for point in points]
    for setting in settings:
        setting.check_prompt(spec["context"])
    model, tokenizer = assets.model(spec["model"]), assets.tokenizer(spec["model"])
    passages = assets.passages(
        spec, count=spec["passages"], length=spec["context"] + spec["score"], tokenizer=tokenizer
    )
    results = []
    for passage in tqdm(passages, desc=spec["id"], unit="passage", mininterval=5):
        tokens, steps = as_batch([passage], model), spec.get("timed_steps", 0)
        with no_garbage_collection():
            found = perplexities(model, tokens, context=spec["context"], settings=settings, timed_steps=steps)
            results.append(list(found))
    beside = {"reference": _reference(spec, assets, passages)} if "baseline" in spec else {}
    where = [{"document": passage.document, "offset": passage.offset} for passage in passages]
    curve = [_row(point, found) for point, found in zip(points, zip(*results, strict=True), strict=True)]
    return {"passages": where, "curve": curve, **beside}


def _reference(spec: dict, assets: Assets, passages: list[Passage]) -> dict:
    """The baseline's likelihood of the same tokens on its full cache, a passage each.

    Raises
    ------
    ValueError
        If it is of another tokenizer: a perplexity is one of tokens.
    """
    model, baseline = assets.model(spec["model"]), assets.model(spec["baseline"])
    if model.vocabulary != baseline.vocabulary:
        raise ValueError(
            f"{spec['id']}: {spec['model']} and its baseline {spec['baseline']} have different tokenizers, so that "
            "their perplexities are of different tokens; compare models of one tokenizer"
        )
    found = []
    for passage in passages:
        tokens = as_batch([passage], baseline)
        found += perplexities(baseline, tokens, context=spec["context"], settings=[Compression()])
    return {name: [getattr(each, name) for each in found] for name in ("nll", "n_tokens")}


def _points(spec: dict) -> list[Point]:
    """Every ratio once, and with `decoding_interval` every ratio above 0 while decoding."""
    while_decoding = [ratio for ratio in spec["ratios"] if ratio] if "decoding_interval" in spec else []
    return [Point(ratio, ONCE) for ratio in spec["ratios"]] + [Point(ratio, DECODING) for ratio in while_decoding]


def _row(point: Point, found: tuple[Perplexity, ...]) -> dict:
    """A point of the curve for the metrics file: mean sizes of the cache, one value a passage of everything else."""
    values = {name: [getattr(result, name) for result in found] for name in _PER_PASSAGE}
    return {
        "ratio": point.ratio,
        "mode": point.mode,
        **{name: statistics.mean(getattr(result, name) for result in found) for name in ("slots", "kv_bytes")},
        **{name: None if None in column else column for name, column in values.items()},
        **_times([result.steps for result in found]),
    }


def _times(steps: list[dict[str, list] | None]) -> dict:
    """The timed steps of all passages: their brackets, and the median milliseconds of a passage on either cache."""
    if None in steps:
        return {"brackets": None, "step_ms": None, "full_step_ms": None}
    return {
        "brackets": {name: [value for each in steps for value in each[name]] for name in COLUMNS},
        "step_ms": [1e3 * statistics.median(each["seconds"]) for each in steps],
        "full_step_ms": [1e3 * statistics.median([*each["before"], *each["after"]]) for each in steps],
    }
