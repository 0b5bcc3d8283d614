"""Speed: a method against the cached autoregressive baseline, in duels on the same prompts."""

from collections.abc import Iterator

from specpress.experiments.assets import Assets
from specpress.experiments.duels.arms import arm_of, build
from specpress.experiments.duels.contender import Contender, Run
from specpress.experiments.duels.contest import Contest
from specpress.experiments.duels.lossless import Pair, check
from specpress.experiments.duels.tree_sample import sample
from specpress.speculation.verification import OF_TREES
from specpress.study.expansion import branches, is_compared
from specpress.theory.costs import costs
from specpress.theory.expected import expected_speedup
from specpress.theory.parts import DRAFTING, VERIFICATION


def measure(spec: dict, assets: Assets) -> dict:
    """The duels, what ended them, the losslessness check, theory and a sample of the text."""
    baseline, method = build({"model": spec["baseline"]}, assets), build(arm_of(spec), assets)
    contest = Contest(spec, baseline, [method], assets, texts=is_compared(spec))
    ended = contest.run()
    contender = contest.contenders[0]
    return {
        "ended": ended,
        **contender.columns(),
        "lossless": check(spec, assets, _pairs(contender.runs)),
        "theory": _theory(spec, contender),
        "sample": contest.sample(["method"]),
        "tree": sample(contest.again(contender), contest.tokenizer) if branches(spec.get("drafter", {})) else None,
        "disturbed_steps": contest.disturbed_steps(),
    }


def _pairs(runs: list[Run]) -> Iterator[Pair]:
    """The texts of both sides, row by row, where the baseline's was written."""
    for run in runs:
        if run.baseline_tokens is not None:
            both = zip(run.baseline_tokens.tolist(), run.generation.tokens.tolist(), strict=True)
            for row, (passage, (expected, got)) in enumerate(zip(run.prompt.passages, both, strict=True)):
                yield Pair(run.prompt.number, row, passage.tokens, expected, got)


def _theory(spec: dict, contender: Contender) -> dict:
    """Acceptance and costs as measured in these very duels, and the speed-up they predict."""
    nothing = {"acceptance": None, "draft_cost": None, "verification_cost": None, "predicted_speedup": None}
    if "drafter" not in spec:
        return {**nothing, "why": "no drafter"}
    if spec.get("verification") in OF_TREES:
        return {**nothing, "why": "the formula is for a path"}
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
