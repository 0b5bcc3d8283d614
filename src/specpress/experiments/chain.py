"""A chain of ways to decode, each one change away from the one before, duelled with one baseline on the same prompts.

It takes a factor reported against a weak baseline apart: from the original study's uncached protocol to the cached
loop. A factor between two steps is the ratio of what both gain over the cached autoregressive baseline.
"""

from specpress.experiments.assets import Assets
from specpress.experiments.duels.arms import arm_of, build
from specpress.experiments.duels.contest import Contest

_LABELS = ("name", "title", "anchor")


def measure(spec: dict, assets: Assets) -> dict:
    """Every step's duels, what ended them, and a sample of the text of each step."""
    baseline = build({"model": spec["model"]}, assets)
    arms = [build({"model": spec["model"]} | arm_of(step), assets) for step in spec["steps"]]
    contest = Contest(spec, baseline, arms, assets)
    ended = contest.run()
    steps = [
        {key: step[key] for key in _LABELS if key in step} | contender.columns()
        for step, contender in zip(spec["steps"], contest.contenders, strict=True)
    ]
    sample = contest.sample([step["name"] for step in spec["steps"]])
    return {"ended": ended, "steps": steps, "sample": sample, "disturbed_steps": contest.disturbed_steps()}
