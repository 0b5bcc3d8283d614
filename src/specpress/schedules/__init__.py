"""Schedules: how many tokens to draft next, constant or adapted to how the last rounds went.

A schedule looks at finished rounds, or stops drafting after a token has been included; both leave the output law as it
is. May import: the ground floor. Read first: base.py.
"""

from specpress.schedules.base import Constant, Schedule
from specpress.schedules.dynamic import AIMD, Heuristic, PlusMinusOne
from specpress.schedules.informed import Confidence, Optimal
from specpress.schedules.iteration import Iteration
from specpress.schedules.tree_size import OptimalTree

__all__ = [
    "AIMD",
    "Confidence",
    "Constant",
    "Heuristic",
    "Iteration",
    "Optimal",
    "OptimalTree",
    "PlusMinusOne",
    "Schedule",
]
