"""What measuring adds: the time in which no part of a generation is timed, and what taking rounds apart does to them.

A contest times the parts of both sides, each by itself. Everything else is the harness: in a duel taking turns and
keeping records, besides warming up, setting up prompts, and looking whether the precision is reached. It stretches the
measuring, not what is measured; what is measured changes only if a part next to a step takes another time than a part
next to a part, which whole rounds show.
"""

import math
import statistics
import time
from contextlib import contextmanager

from specpress.decoding.generation import Stopwatch
from specpress.experiments.assets import Assets
from specpress.experiments.duels import contest as contests
from specpress.experiments.duels.arms import arm_of, build
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


@contextmanager
def untimed_of_duels(timer: PartTimer):
    """A list that gets, of each duel inside the block, the seconds in which no part ran, over its rounds."""
    found, duel = [], contests.duel

    def timed(*args):
        before, started = timer.seconds, time.perf_counter()
        read, rounds = duel(*args)
        untimed = time.perf_counter() - started - (timer.seconds - before)
        found.append(untimed / sum(n for (part, _), n in rounds.items() if part == VERIFICATION))
        return read, rounds

    contests.duel = timed
    try:
        yield found
    finally:
        contests.duel = duel


def rows(spec: dict, assets: Assets) -> list[dict]:
    """Three rows of a speed experiment.

    What is not timed of a round of a duel, over a baseline step, in the median prompt; what is not timed of the whole
    contest, over its seconds; and, where there were enough, whole rounds over their parts.
    """
    baseline = build({"model": spec["baseline"]}, assets)
    contest = contests.Contest(spec, baseline, [build(arm_of(spec), assets)], assets)
    with PartTimer() as timer, untimed_of_duels(timer) as of_rounds:
        started = time.perf_counter()
        ended = contest.run()
        seconds = time.perf_counter() - started
    step = statistics.median(contest.contenders[0].record.brackets["before"])
    shares, prompts = [untimed / step for untimed in of_rounds], ended["prompts"]
    found = {"name": "the harness a round, over a target step", "ratio": statistics.median(shares), "prompts": prompts}
    told = [found | {"ends": [min(shares), max(shares)], "goal": f"< {GOAL}", "parts": timer.parts}]
    found = {"name": "the harness of a contest, over its seconds", "ratio": (seconds - timer.seconds) / seconds}
    told.append(found | {"ends": [], "goal": "-", "prompts": prompts})
    check = ended["checks"][0]
    if check is not None:
        ends = [check["ratio"] * math.exp(sign * check["half_width"]) for sign in (-1, 1)]
        found = {"name": "whole rounds over their parts", "ratio": check["ratio"], "ends": ends, "goal": "= 1"}
        told.append(found | {"prompts": prompts, "stretches": check["stretches"]})
    return told
