"""Rows of duels: a speed-up with the interval that its two uncertainties leave, and what the duel itself was like.

A duelled method is a mapping with `runs`, `brackets` and `stretches`, as `specpress.experiments.duels.contest` writes
it: a speed experiment is one, each step of a chain is one.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from specpress.analysis.rows import place, row, single
from specpress.theory.costs import Brackets, costs
from specpress.theory.duels import Joint, Text, log_speedups, speedup, together

ENDED = {
    "precision": "the precision asked for was reached",
    "budget": "the budget of seconds was spent",
    "prompts": "there were no more prompts",
}


def joint_row(metric: str, joint: Joint | None, note: str, field: str) -> dict:
    """A row for a ratio of which machine and text are uncertain; without one, `note` says why."""
    if joint is None:
        return row(metric, "x", None, note, field)
    found = row(metric, "x", joint.estimate(), note, field)
    return found | {"machine_share": joint.machine_share}


def speedup_of(method: Mapping) -> tuple[Joint | None, str]:
    """The speed-up of a duelled method, and a note on prompts that have none."""
    texts, prompts = list(_texts(method).values()), {place(run) for run in method["runs"]}
    if not texts:
        return None, "every text ended after its first token"
    missing = len(prompts) - len(texts)
    note = (
        f"{missing} of {len(prompts)} prompts without a value: the text ended after its first token" if missing else ""
    )
    return speedup(texts, Brackets.from_columns(method["brackets"])), note


def constant_speedup(part: str, size: int, brackets: Mapping, n: int) -> Joint:
    """The speed-up of one part against the step it is set between, seen on `n` texts that leave it as it is."""
    return speedup([Text(1, {(part, size): 1})] * n, Brackets.from_columns(brackets))


def log_speedups_of(method: Mapping) -> dict[tuple, float]:
    """Log speed-up of each prompt, at the costs that all duels together found; prompts without one are left out."""
    texts = _texts(method)
    kinds = list(dict.fromkeys(kind for text in texts.values() for kind in text.rounds))
    found = costs(Brackets.from_columns(method["brackets"]), kinds)
    return dict(zip(texts, log_speedups(list(texts.values()), found).tolist(), strict=True))


def ratio_row(metric: str, ours: Mapping, theirs: Mapping, field: str) -> dict:
    """The speed-up of one duelled method over that of another, prompt by prompt: both were set against one baseline."""
    first, second = log_speedups_of(ours), log_speedups_of(theirs)
    shared = [where for where in first if where in second]
    if not shared:
        return row(metric, "x", None, "no prompt was decoded by both", field)
    differences = np.array([first[where] - second[where] for where in shared])
    one, other = speedup_of(ours)[0], speedup_of(theirs)[0]
    return joint_row(metric, one.minus(other, differences), "", field)


def quality_rows(method: Mapping, ended: Mapping, check: Mapping | None) -> Iterable[dict]:
    """What the duels were like: brackets, duelled prompts, what ended them, whole rounds over their parts."""
    yield single("brackets", "parts", len(method["brackets"]["part"]), "brackets", "")
    yield single("duelled", "prompts", sum(run["duelled"] for run in method["runs"]), "runs[*].duelled", "")
    width = single("half_width", "", ended["half_width"], "ended.half_width", "fewer than three prompts")
    yield width | {"note": width["note"] or ENDED[ended["by"]]}
    yield single("precision", "", ended["precision"], "ended.precision", "")
    if check is None:
        yield row("whole_over_parts", "x", None, "too few rounds were timed whole", "stretches")
        return
    low, high = (check["ratio"] * math.exp(sign * check["half_width"]) for sign in (-1, 1))
    note = f"99.9% interval, from {check['stretches']} stretches of whole rounds"
    yield single("whole_over_parts", "x", check["ratio"], "stretches", "") | {"low": low, "high": high, "note": note}


def _texts(method: Mapping) -> dict[tuple, Text]:
    """The text of each prompt; the turns of a question are one."""
    return together(
        (place(run), Text(run["tokens"], {(part, size): number for part, size, number in run["rounds"]}))
        for run in method["runs"]
        if run["tokens"] > 0
    )
