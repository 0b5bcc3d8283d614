"""Contrasts between experiments that share everything but one thing, on the same prompts or passages."""

from collections.abc import Iterable, Mapping

from specpress.analysis.factors import factors
from specpress.analysis.metrics import duels
from specpress.analysis.metrics.perplexity import field_of, mode_of, ratio_row
from specpress.analysis.rankings import rankings
from specpress.study.expansion import branches
from specpress.study.registry import SCHEDULES, resolve
from specpress.study.source_code import class_parameters
from specpress.theory.intervals import among, best_established

REFERENCE_PRESS = "streaming_llm"
# How much is measured; the prompts come in one order, so that two experiments share the first of them whatever it says.
EFFORT = ("precision", "budget_seconds", "least_prompts", "most_prompts")


def contrasts(metrics: list[Mapping]) -> list[dict]:
    """The rows of every contrast of a study."""
    return [
        *_schedules(metrics),
        *_cascades(metrics),
        *_verifications(metrics),
        *_trees(metrics),
        *_presses(metrics),
        *_rankings(metrics),
    ]


def _schedules(metrics: list[Mapping]) -> Iterable[dict]:
    """A dynamic schedule against the constant one it starts from."""
    for item in _speeds(metrics):
        options = dict(item["spec"].get("schedule") or {})
        name = options.pop("name", "constant")
        if name not in SCHEDULES or "initial" not in (class_parameters(SCHEDULES[name]) or {}):
            continue
        begins_at = resolve(SCHEDULES, name, "schedule")(**options).gamma  # within its floor and cap
        constant = {**item["spec"], "schedule": {"name": "constant", "gamma": begins_at}}
        reference = _find(metrics, constant)
        if reference is not None:
            yield _speed_contrast("speedup_over_reference", item, reference)


def _cascades(metrics: list[Mapping]) -> Iterable[dict]:
    """A cascade against the plain draft model on the same prompts whose gain is best established."""
    for item in _speeds(metrics):
        if (item["spec"].get("drafter") or {}).get("name") != "cascade":
            continue
        plain = [other for other in _speeds(metrics) if _is_plain_draft(other) and _same_prompts(item, other)]
        if plain:
            yield _speed_contrast("speedup_over_plain", item, _best_established(plain))


def _verifications(metrics: list[Mapping]) -> Iterable[dict]:
    """Block verification against token verification of the same drafts."""
    for item in _speeds(metrics):
        if item["spec"].get("verification", "token") != "token":
            reference = _find(metrics, {**item["spec"], "verification": "token"})
            if reference is not None:
                yield _speed_contrast("speedup_over_token", item, reference)


def _trees(metrics: list[Mapping]) -> Iterable[dict]:
    """A tree against as many rows of the same estimates as a path."""
    for item in _speeds(metrics):
        drafter = item["spec"].get("drafter") or {}
        if not branches(drafter) or drafter.get("shape", "best") == "path":
            continue
        reference = _find(metrics, {**item["spec"], "drafter": {**drafter, "shape": "path"}})
        if reference is not None:
            yield _speed_contrast("speedup_over_path", item, reference)


def _presses(metrics: list[Mapping]) -> Iterable[dict]:
    """Every press against StreamingLLM at the same ratio and mode: the ratio of their perplexities by passage."""
    for item in metrics:
        press = item["spec"].get("press") or {}
        if item["kind"] != "perplexity" or press.get("name") in (None, REFERENCE_PRESS):
            continue
        reference = _find(metrics, {**item["spec"], "press": {"name": REFERENCE_PRESS}})
        if reference is None or item["passages"] != reference["passages"]:
            continue
        theirs = {(point["ratio"], mode_of(point)): point for point in reference["curve"]}
        for point in item["curve"]:
            if point["ratio"] == 0 or (point["ratio"], mode_of(point)) not in theirs:
                continue
            found = ratio_row(point, theirs[point["ratio"], mode_of(point)], "")
            found |= {"metric": "ppl_over_reference", "field": f"{field_of(point)} of both, against {reference['id']}"}
            yield _contrast(item, reference, found | {"ratio": point["ratio"], "mode": mode_of(point)})


def _rankings(metrics: list[Mapping]) -> Iterable[dict]:
    """How well perplexity ranks presses as tasks do."""
    for item, reference, found in rankings(metrics):
        yield _contrast(item, reference, found)


def _speeds(metrics: list[Mapping]) -> list[Mapping]:
    return [item for item in metrics if item["kind"] == "speed"]


def _is_plain_draft(item: Mapping) -> bool:
    """A draft model by itself, with nothing compressed, in the target's place no other model."""
    spec = item["spec"]
    drafter = spec.get("drafter") or {}
    return drafter.get("name") == "draft_model" and not drafter.get("press") and not spec.get("press")


def _same_prompts(one: Mapping, other: Mapping) -> bool:
    """Whether two experiments differ in nothing but who drafts, how much, and how that is verified."""
    varied = {"drafter", "schedule", "verification"}
    return _without(one["spec"], varied) == _without(other["spec"], varied)


def _best_established(items: list[Mapping]) -> Mapping:
    """The experiment whose speed-up is; of those that have one, if any has."""
    joints = [(item, duels.speedup_of(item)[0]) for item in items]
    known = [(item, among(joint.estimate(), len(items))) for item, joint in joints if joint]
    if not known:
        return items[0]
    return known[best_established([(found.low, found.value) for _, found in known])][0]


def _find(metrics: list[Mapping], spec: Mapping) -> Mapping | None:
    """The result whose spec equals `spec` in everything but its id, its effort and what it times besides."""
    return next((item for item in metrics if _without(item["spec"]) == _without(spec)), None)


def _without(spec: Mapping, keys: set[str] = frozenset()) -> dict:
    named = {"verification": "token", **spec}  # which is meant where none is said
    return {key: value for key, value in named.items() if key not in {"id", "timed_steps", *EFFORT, *keys}}


def _speed_contrast(metric: str, item: Mapping, reference: Mapping) -> dict:
    """The ratio of two speed-ups, prompt by prompt: each was measured against the baseline on the same prompt."""
    found = duels.ratio_row(metric, item, reference, f"runs[*] and brackets of both, against {reference['id']}")
    return _contrast(item, reference, found)


def _contrast(item: Mapping, reference: Mapping, found: dict) -> dict:
    return {"experiment": item["id"], "file": item["file"], **factors(item), **found, "reference": reference["id"]}
