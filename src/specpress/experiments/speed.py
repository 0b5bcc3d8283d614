"""Speed: a method against the cached autoregressive baseline, in duels on the same prompts."""

import torch
from torch import nn

from specpress.experiments.arms import arm_of, build
from specpress.experiments.assets import Assets
from specpress.experiments.contest import Contender, Contest, Run
from specpress.theory.duels import costs
from specpress.theory.expected import expected_speedup
from specpress.theory.parts import DRAFTING, VERIFICATION


def measure(spec: dict, assets: Assets) -> dict:
    """The duels, what ended them, the losslessness check, theory and a sample of the text."""
    baseline, method = build({"model": spec["baseline"]}, assets), build(arm_of(spec), assets)
    comparable = _why_not_comparable(spec) is None
    contest = Contest(spec, baseline, [method], assets, texts=comparable)
    ended = contest.run()
    contender = contest.contenders[0]
    return {
        "ended": ended,
        **contender.columns(),
        "lossless": _check_lossless(spec, assets.model(spec["baseline"]), contender.runs),
        "theory": _theory(spec, contender),
        "sample": contest.sample(["method"]),
        "disturbed_steps": contest.disturbed_steps(),
    }


def _check_lossless(spec: dict, baseline: nn.Module, runs: list[Run]) -> dict:
    """Greedy duels must give the baseline's tokens; a difference counts as a near tie only where the logits say so."""
    if why := _why_not_comparable(spec):
        return {"compared": None, "why": why}
    verdicts = [
        _compare(baseline, passage.tokens, run.baseline_tokens[row].tolist(), run.generation.tokens[row].tolist())
        for run in runs
        if run.baseline_tokens is not None
        for row, passage in enumerate(run.prompt.passages)
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


def _theory(spec: dict, contender: Contender) -> dict:
    """Acceptance and costs as measured in these very duels, and the speed-up they predict."""
    nothing = {"acceptance": None, "draft_cost": None, "verification_cost": None, "predicted_speedup": None}
    if "drafter" not in spec:
        return {**nothing, "why": "no drafter"}
    if spec.get("batch", 1) > 1:
        return {**nothing, "why": "the formula is for a single sequence"}
    rounds = [i for run in contender.runs for i in run.generation.trace.iterations]
    drafting = [i for i in rounds if i.proposed]
    if not drafting:
        return {**nothing, "why": "the drafter proposed nothing"}
    gamma = spec["schedule"].get("gamma")
    kinds = {(DRAFTING, i.proposed) for i in drafting} | {(VERIFICATION, i.proposed + 1) for i in drafting}
    found = costs(contender.brackets(), sorted(kinds))
    accepted = sum(i.accepted for i in drafting)
    measured = {
        "acceptance": accepted / (accepted + sum(i.rejections for i in drafting)),
        "draft_cost": sum(found[DRAFTING, i.proposed] for i in drafting) / sum(i.proposed for i in drafting),
    }
    full = any(i.proposed == gamma for i in drafting)
    if not full or any(i.proposed < i.gamma for i in rounds) or spec["schedule"]["name"] != "constant":
        return {**nothing, **measured, "why": "the formula needs the same number of proposals in every round"}
    cost = found[VERIFICATION, gamma + 1]
    predicted = expected_speedup(measured["acceptance"], gamma, found[DRAFTING, gamma] / gamma, cost)
    return {**measured, "verification_cost": cost, "predicted_speedup": predicted}
