"""Accuracies: means of scores between 0 and 1, with intervals that cover however few they are and near the ends.

The interval of a proportion is the exact one (Clopper and Pearson, 1934). A score that is a part of one, such as two of
three answers found, enters the count as that part: such scores vary less than those that are 0 or 1 with the same
mean, so that the interval is too wide rather than too narrow (the test suite simulates it).
"""

import math
from collections.abc import Sequence

from scipy.special import betaincinv

from specpress.theory.intervals import CONFIDENCE, Estimate


def proportion(scores: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """Mean of scores, each between 0 and 1, with its interval.

    Raises
    ------
    ValueError
        If there is no score, or one outside [0, 1].
    """
    if not scores or not all(0 <= score <= 1 for score in scores):
        raise ValueError(f"scores must be numbers from 0 to 1, and at least one; got {list(scores)}")
    n, found = len(scores), sum(scores)
    tail = (1 - confidence) / 2
    low = float(betaincinv(found, n - found + 1, tail)) if found > 0 else 0.0
    high = float(betaincinv(found + 1, n - found, 1 - tail)) if found < n else 1.0
    return Estimate(found / n, low, high, n, on_log_scale=False)


def change(scores: Sequence[float], reference: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """Mean of scores less that of the reference on the same problems, paired, with its interval.

    It is the mean gain less the mean loss, both proportions with exact intervals, joined by the squares of what those
    leave on either side and by the correlation of two outcomes of one draw (Newcombe, 1998, "Improved confidence
    intervals for the difference between binomial proportions based on paired data"; Zou, 2007). From 6 problems to 48,
    with gains and losses from none to all, it covers at least 0.943 of the time.

    Raises
    ------
    ValueError
        If there is not one reference a score, or as in `proportion`.
    """
    if len(scores) != len(reference):
        raise ValueError(f"paired scores expected; got {len(scores)} and {len(reference)} of them")
    apart = [score - other for score, other in zip(scores, reference, strict=True)]
    gain, loss = (proportion([max(sign * each, 0.0) for each in apart], confidence=confidence) for sign in (1, -1))
    value, free = gain.value - loss.value, (1 - gain.value) * (1 - loss.value)
    correlation = math.sqrt(gain.value * loss.value / free) if free else 0.0
    low = value - _joined(gain.value - gain.low, loss.high - loss.value, correlation)
    high = value + _joined(gain.high - gain.value, loss.value - loss.low, correlation)
    return Estimate(value, low, high, len(scores), on_log_scale=False)


def _joined(one: float, other: float, correlation: float) -> float:
    return math.sqrt(one**2 + other**2 + 2 * correlation * one * other)


def is_able(scores: Sequence[float], bar: float) -> bool:
    """Whether the full cache can do a task: the lower end of the interval of its accuracy is at least `bar`."""
    return proportion(scores).low >= bar
