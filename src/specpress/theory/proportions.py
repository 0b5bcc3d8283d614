"""Accuracies: means of scores between 0 and 1, with intervals that cover however few they are and near the ends.

The interval of a proportion is the exact one (Clopper and Pearson, 1934). A score that is a part of one, such as two of
three answers found, enters the count as that part: such scores vary less than those that are 0 or 1 with the same
mean, so that the interval is too wide rather than too narrow (the test suite simulates it).

Scores of several tasks on one context are no independent draws. They count for as many as would vary as the contexts'
means are seen to, at most for all (Korn and Graubard, 1998, "Confidence intervals for proportions with small expected
number of positive counts estimated from survey data").
"""

import math
from collections.abc import Hashable, Sequence

from scipy.special import betaincinv, stdtrit

from specpress.theory.intervals import CONFIDENCE, Estimate


def proportion(
    scores: Sequence[float], *, units: Sequence[Hashable] | None = None, confidence: float = CONFIDENCE
) -> Estimate:
    """Mean of scores, each between 0 and 1, with its interval.

    units : what each score was seen on; those on one belong together. Each on one of its own, if not given

    Raises
    ------
    ValueError
        If there is no score, or one outside [0, 1].
    """
    if not scores or not all(0 <= score <= 1 for score in scores):
        raise ValueError(f"scores must be numbers from 0 to 1, and at least one; got {list(scores)}")
    mean, tail = sum(scores) / len(scores), (1 - confidence) / 2
    n = len(scores) if units is None else _worth(scores, units, tail)
    found = mean * n
    low = float(betaincinv(found, n - found + 1, tail)) if found > 0 else 0.0
    high = float(betaincinv(found + 1, n - found, 1 - tail)) if found < n else 1.0
    return Estimate(mean, low, high, len(scores if units is None else set(units)), on_log_scale=False)


def _worth(scores: Sequence[float], units: Sequence[Hashable], tail: float) -> float:
    """How many independent scores these are worth, from 1 to all of them."""
    n, mean = len(scores), sum(scores) / len(scores)
    apart: dict[Hashable, float] = {}
    for score, unit in zip(scores, units, strict=True):
        apart[unit] = apart.get(unit, 0.0) + score - mean
    if len(apart) < 2:
        return 1.0
    variance = len(apart) / (len(apart) - 1) * sum(each**2 for each in apart.values()) / n**2
    if not 0 < mean < 1:
        return float(len(apart))  # nothing differs, within units or between: so many outcomes at least
    if not variance:
        return float(n)
    fewer = float(stdtrit(n - 1, tail) / stdtrit(len(apart) - 1, tail)) ** 2
    return min(float(n), max(1.0, fewer * mean * (1 - mean) / variance))


def change(
    scores: Sequence[float],
    reference: Sequence[float],
    *,
    units: Sequence[Hashable] | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
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
    gain, loss = (
        proportion([max(sign * each, 0.0) for each in apart], units=units, confidence=confidence) for sign in (1, -1)
    )
    value, free = gain.value - loss.value, (1 - gain.value) * (1 - loss.value)
    correlation = math.sqrt(gain.value * loss.value / free) if free else 0.0
    low = value - _joined(gain.value - gain.low, loss.high - loss.value, correlation)
    high = value + _joined(gain.high - gain.value, loss.value - loss.low, correlation)
    return Estimate(value, low, high, gain.n, on_log_scale=False)


def _joined(one: float, other: float, correlation: float) -> float:
    return math.sqrt(one**2 + other**2 + 2 * correlation * one * other)


def is_able(scores: Sequence[float], bar: float) -> bool:
    """Whether the full cache can do a task: the lower end of the interval of its accuracy is at least `bar`."""
    return proportion(scores).low >= bar
