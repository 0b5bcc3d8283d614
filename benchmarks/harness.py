"""What measuring adds: the share of a contest that no clock of it runs for, and what taking rounds apart does to them.

A contest times the parts of both sides, each by itself. Everything else is the harness: taking turns, keeping records,
setting up the next prompt, looking whether the precision is reached. It stretches the measuring, not what is measured;
what is measured changes only if a part next to a step takes another time than a part next to a part, which whole rounds
show.
"""

import math
import statistics
import time

from specpress.decoding.generation import Stopwatch
from specpress.experiments.arms import arm_of, build
from specpress.experiments.assets import Assets
from specpress.experiments.contest import Contest
from specpress.theory.parts import VERIFICATION

GOAL = 0.01  # of a baseline step, a round


class PartTimer:
    """Seconds and number of all parts that any generation times inside the block."""

    def __enter__(self):
        self.seconds, self.parts, self._part = 0.0, 0, Stopwatch.part

        def part(watch, name, size):
            found = self._part(watch, name, size)
            self.seconds += found.seconds
            self.parts += 1
            return found

        Stopwatch.part = part
        return self

    def __exit__(self, *error):
        Stopwatch.part = self._part


def rows(spec: dict, assets: Assets) -> list[dict]:
    """Two rows of a speed experiment: what is not timed of a round over a baseline step, and whole rounds over parts.

    The first counts the whole contest, warming up included, over the rounds of all prompts.
    """
    baseline = build({"model": spec["baseline"]}, assets)
    contest = Contest(spec, baseline, [build(arm_of(spec), assets)], assets)
    with PartTimer() as timer:
        started = time.perf_counter()
        ended = contest.run()
        untimed = time.perf_counter() - started - timer.seconds
    contender = contest.contenders[0]
    rounds = sum(n for run in contender.runs for (part, _), n in run.rounds.items() if part == VERIFICATION)
    step = statistics.median(contender.record.brackets["before"])
    check, prompts = ended["checks"][0], ended["prompts"]
    found = {"name": "the harness a round, over a target step", "ratio": untimed / rounds / step, "ends": []}
    told = [found | {"goal": f"< {GOAL}", "prompts": prompts, "rounds": rounds, "parts": timer.parts}]
    if check is not None:
        ends = [check["ratio"] * math.exp(sign * check["half_width"]) for sign in (-1, 1)]
        found = {"name": "whole rounds over their parts", "ratio": check["ratio"], "ends": ends, "goal": "= 1"}
        told.append(found | {"prompts": prompts, "stretches": check["stretches"]})
    return told
