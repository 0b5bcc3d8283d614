"""Speed: a method against the cached autoregressive baseline, prompt by prompt.

Both run alternately on the same prompts in one process, so that drift of the machine cancels in their ratio.
"""

import statistics

import torch
from torch import nn

from specpress.experiments.arms import Run, arm_of, build, figures, run_in_turn
from specpress.experiments.assets import Assets
from specpress.theory.expected import expected_speedup


def measure(spec: dict, assets: Assets) -> dict:
    """Pairs of runs, the losslessness check, theory and a sample of the text."""
    baseline = build({"model": spec["baseline"]}, assets)
    method = build(arm_of(spec), assets)
    runs = list(run_in_turn(spec, [baseline, method], assets))
    pairs = [
        run.where() | dict(zip(("baseline", "method"), map(figures, run.generations), strict=True)) for run in runs
    ]
    tokenizer, first = assets.tokenizer(spec["baseline"]), runs[0]
    texts = [tokenizer.decode(generation.tokens[0]) for generation in first.generations]
    return {
        "pairs": pairs,
        "lossless": _check_lossless(spec, assets.model(spec["baseline"]), runs),
        "theory": _theory(spec, pairs),
        "sample": {"prompt": tokenizer.decode(first.passages[0].tokens), "baseline": texts[0], "method": texts[1]},
    }


def _check_lossless(spec: dict, baseline: nn.Module, runs: list[Run]) -> dict:
    """Greedy runs must give the baseline's tokens; a difference counts as a near tie only where the logits say so."""
    if why := _why_not_comparable(spec):
        return {"compared": None, "why": why}
    verdicts = [
        _compare(baseline, passage.tokens, *(generation.tokens[row].tolist() for generation in run.generations))
        for run in runs
        for row, passage in enumerate(run.passages)
    ]
    return {"compared": len(verdicts), **{name: verdicts.count(name) for name in ("equal", "near_ties", "different")}}


def _why_not_comparable(spec: dict) -> str | None:
    if spec["model"] != spec["baseline"]:
        return f"{spec['model']} is another model than {spec['baseline']}: its text differs by design"
    if "press" in spec:
        return "the target's own cache is compressed: its text differs by design"
    if spec["sampling"]["temperature"] > 0:
        return "sampled texts differ by design; that the sampled law is the target's is proved by the test suite"
    return None


def _compare(model, prompt: list[int], expected: list[int], got: list[int]) -> str:
    """ "equal"; "near_ties" if both tokens' logits at the first difference tie with the largest; else "different".

    Logits tie within two units of the model's precision at the row's largest magnitude: the plain forward, a step on
    the cache and a verification of several tokens round differently, by about that much.
    """
    if expected == got:
        return "equal"
    first = next((i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), None)
    if first is None:
        return "different"
    with torch.inference_mode():
        text = torch.tensor([prompt + expected[:first]], device=model.device)
        logits = model(text, logits_to_keep=1).logits[0, -1].float()
    tolerance = 2 * torch.finfo(model.dtype).eps * logits.abs().max()
    behind = logits.max() - logits[[expected[first], got[first]]]
    return "near_ties" if (behind <= tolerance).all() else "different"


def _theory(spec: dict, pairs: list[dict]) -> dict:
    """Acceptance and costs as measured in these very runs, and the speed-up they predict."""
    nothing = {"acceptance": None, "draft_cost": None, "verification_cost": None, "predicted_speedup": None}
    if "drafter" not in spec:
        return {**nothing, "why": "no drafter"}
    if spec.get("batch", 1) > 1:
        return {**nothing, "why": "the formula is for a single sequence"}
    rounds = [
        dict(zip(trace, values, strict=True))
        for trace in (pair["method"]["trace"] for pair in pairs)
        for values in zip(*trace.values(), strict=True)
    ]
    drafting = [r for r in rounds if r["proposed"]]
    if not drafting:
        return {**nothing, "why": "the drafter proposed nothing"}
    accepted = sum(r["accepted"] for r in drafting)
    tested = accepted + sum(r["accepted"] < r["proposed"] for r in drafting)
    step = statistics.fmean(s for pair in pairs for s in pair["baseline"]["trace"]["seconds"])
    costs = {
        "acceptance": accepted / tested,
        "draft_cost": sum(r["draft_seconds"] for r in drafting) / sum(r["proposed"] for r in drafting) / step,
    }
    gamma = spec.get("schedule", {}).get("gamma")
    full = [r["seconds"] - r["draft_seconds"] for r in drafting if r["proposed"] == gamma]
    if not full or any(r["proposed"] < r["gamma"] for r in rounds) or spec["schedule"]["name"] != "constant":
        return {**nothing, **costs, "why": "the formula needs the same number of proposals in every round"}
    cost = statistics.fmean(full) / step
    predicted = expected_speedup(costs["acceptance"], gamma, costs["draft_cost"], cost)
    return {**costs, "verification_cost": cost, "predicted_speedup": predicted}
