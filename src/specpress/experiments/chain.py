"""A chain of ways to decode, each one change away from the one before, timed in turn on the same prompts.

It takes a factor reported against a weak baseline apart: from the original study's uncached protocol to the cached
loop.
"""

from specpress.experiments.arms import arm_of, build, figures, run_in_turn
from specpress.experiments.assets import Assets

_LABELS = ("name", "title", "anchor")


def measure(spec: dict, assets: Assets) -> dict:
    """Every step's figures on every prompt, and a sample of the text of each step."""
    arms = [build({"model": spec["model"]} | arm_of(step), assets) for step in spec["steps"]]
    runs = list(run_in_turn(spec, arms, assets))
    tokenizer, first = assets.tokenizer(spec["model"]), runs[0]
    texts = [tokenizer.decode(generation.tokens[0]) for generation in first.generations]
    names = [step["name"] for step in spec["steps"]]
    return {
        "steps": [{key: step[key] for key in _LABELS if key in step} for step in spec["steps"]],
        "runs": [run.where() | {"steps": [figures(generation) for generation in run.generations]} for run in runs],
        "sample": {"prompt": tokenizer.decode(first.passages[0].tokens), **dict(zip(names, texts, strict=True))},
    }
