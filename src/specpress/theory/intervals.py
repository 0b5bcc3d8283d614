"""Intervals that cover, from a standard error, its degrees of freedom, and a skewness.

With s the standard error on the log scale, q the quantile of Student's t and z that of the normal law, the interval is

    log value +- q s (1 + b (k^2 + 1/n)),    b = (z^4 + 2 z^2 - 3) / 18,    k = skewness of a unit / sqrt(n).

Student's t alone covers too little where units are skewed: it falls short by b k^2 to the second order (Hall, 1992,
"The Bootstrap and Edgeworth Expansion", section 2.6; the term in the kurtosis is small and left out), which is made
good here. The 1/n stands for the skewness that a small sample cannot show: what it shows is too little on average.
Since b grows with the level, intervals adjusted for many comparisons cover too. docs/intervals.md has the simulations
behind the choice, beside the coverage of the bootstrap and of Student's t; the test suite runs them again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import ndtri, stdtrit  # scipy.stats, which has no others, takes a second to import

CONFIDENCE = 0.95
FEWEST = 3  # units of an interval: two show neither skewness nor much of a spread
_TELLS_NOTHING = 100  # times the low end: no interval that the text should print
TOO_FEW = "fewer than three units: no interval"
ALIKE = "all units alike: an interval without width"


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, and what the interval was made of.

    Parameters
    ----------
    value : float
        The point estimate.
    low, high : float or None
        Ends of the interval; None where there is none, and then `note` says why.
    n : int
        Units: prompts, passages, repeats.
    note : str
        Why there is no interval, or what is odd about it.
    se, df, skew : float or None
        Standard error of the value, its degrees of freedom, and the skewness of its law (that of a unit over sqrt(n)).
    on_log_scale : bool
        Whether these three are of the logarithm of the value.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    note: str = ""
    se: float | None = None
    df: float | None = None
    skew: float | None = None
    on_log_scale: bool = True


def mean_error(values: np.ndarray) -> tuple[float, float | None, float | None]:
    """Mean of some units, its standard error and the skewness of its law; None for too few units."""
    n, mean = values.size, float(values.mean())
    if n < FEWEST:
        return mean, None, None
    away = values - mean
    deviation = float(values.std(ddof=1))
    if deviation <= 1e-12 * max(1.0, abs(mean)):  # what rounding leaves of equal values
        return mean, 0.0, 0.0
    skewness = n / ((n - 1) * (n - 2)) * float((away**3).sum()) / deviation**3
    return mean, deviation / n**0.5, skewness / n**0.5


def with_interval(estimate: Estimate, confidence: float) -> Estimate:
    """The estimate with its interval at this level, by the formula of this module's docstring."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1; got {confidence}")
    if estimate.se is None:
        return replace(estimate, low=None, high=None, note=estimate.note or TOO_FEW, df=None)
    half = estimate.se * _quantile(confidence, estimate.df, estimate.skew)
    low, high = (
        (estimate.value * float(np.exp(-half)), estimate.value * float(np.exp(half)))
        if estimate.on_log_scale
        else (estimate.value - half, estimate.value + half)
    )
    return replace(estimate, low=low, high=high, note=estimate.note or ("" if half else ALIKE))


def among(estimate: Estimate, looks: int, *, confidence: float = CONFIDENCE) -> Estimate:
    """The estimate with the interval that it has as one of `looks` that were looked at.

    Each interval is at the level 1 - (1 - confidence) / looks, so that all of them cover together, and the one that is
    picked for what it says covers too, whatever the dependence between them (Bonferroni; Dunn, 1961). Of so few units
    that the ends lie a factor of a hundred apart there is none: it would say nothing, in many digits.

    Raises
    ------
    ValueError
        If `looks` is not at least one.
    """
    if looks < 1:
        raise ValueError(f"looks counts the estimates that were looked at, this one included; got {looks}")
    found = with_interval(estimate, 1 - (1 - confidence) / looks)
    if found.on_log_scale and found.low is not None and found.high > _TELLS_NOTHING * found.low:
        note = f"too few units for an interval of one of {looks}"
        return replace(found, low=None, high=None, note="; ".join(part for part in (found.note, note) if part))
    return found


def best_established(gains: Sequence[tuple[float | None, float]]) -> int | None:
    """Which of these is: the highest lower end of intervals that are adjusted for all that were compared.

    An estimate is the higher for resting on few units as often as the lower, so that the highest of many is mostly
    chance. One without an adjusted interval is taken only where none has one, and then by its estimate.

    gains : the lower end of each, or None, and the estimate
    """
    known = [which for which, (low, _) in enumerate(gains) if low is not None]
    if known:
        return max(known, key=lambda which: gains[which][0])
    return max(range(len(gains)), key=lambda which: gains[which][1], default=None)


def joined(
    value: float,
    parts: Sequence[Estimate],
    weights: Sequence[float],
    *,
    n: int | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """An estimate made of independent ones, say a speed-up of tokens a round (text) and costs (machine).

    Variances and third cumulants add on the log scale, and the half-width is the root of the summed squares of those of
    the parts (Zou and Donner, 2008, "Construction of confidence limits about effect measures"); `df` is what Student's
    t needs for that. The degrees of freedom of Welch and Satterthwaite are too many where few units happen to agree:
    with them, three prompts beside twenty costs covered 0.92 of the time.

    Parameters
    ----------
    value : float
        The positive value that was made of the parts.
    parts : sequence of Estimate
        Estimates on the log scale, independent of each other.
    weights : sequence of float
        How far the logarithm of `value` moves with that of each part: 1 for what multiplies, -1 for what divides, minus
        its share of the sum for a term of a sum that divides.
    n : int, optional
        Units to name; those of the first part if not given.

    Returns
    -------
    Estimate
        Without an interval, and with that part's note, where a part has none.

    Raises
    ------
    ValueError
        If there is not one weight a part, or a part has a standard error of another scale.
    """
    if len(parts) != len(weights) or not parts:
        raise ValueError(f"expected one weight a part and at least one; got {len(parts)} parts, {len(weights)} weights")
    if not all(part.on_log_scale for part in parts):
        raise ValueError("parts are joined on the log scale; one was estimated on another")
    n = parts[0].n if n is None else n
    missing = next((part for part in parts if part.se is None), None)
    if missing is not None:
        return Estimate(value, None, None, n, missing.note or TOO_FEW)
    errors = np.array([weight * part.se for part, weight in zip(parts, weights, strict=True)])
    variance = float((errors**2).sum())
    if variance == 0:
        return with_interval(Estimate(value, None, None, n, "", 0.0, min(part.df for part in parts), 0.0), confidence)
    skew = float(sum(part.skew * error**3 for part, error in zip(parts, errors, strict=True)) / variance**1.5)
    halves = [error * _quantile(confidence, part.df, part.skew) for part, error in zip(parts, errors, strict=True)]
    df = _freedom(confidence, float(np.linalg.norm(halves)) / variance**0.5, skew)
    return with_interval(Estimate(value, None, None, n, "", variance**0.5, df, skew), confidence)


def _quantile(confidence: float, df: float, skew: float) -> float:
    """Half-width of the interval in standard errors."""
    q, b = _student(confidence, df)
    return q * (1 + b * (skew**2 + 1 / (df + 1)))


@lru_cache(maxsize=4096)
def _student(confidence: float, df: float) -> tuple[float, float]:
    """q and b of this module's docstring."""
    return float(stdtrit(df, (1 + confidence) / 2)), _edgeworth(confidence)


@lru_cache
def _edgeworth(confidence: float) -> float:
    z = float(ndtri((1 + confidence) / 2))
    return max(0.0, (z**4 + 2 * z**2 - 3) / 18)


@lru_cache
def _students(confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Degrees of freedom, from many to few, and the quantiles of Student's t at them."""
    df = np.geomspace(1e6, 0.5, 600)
    return df, stdtrit(df, (1 + confidence) / 2)


def _freedom(confidence: float, quantile: float, skew: float) -> float:
    """The degrees of freedom at which `_quantile` has this value, to a percent."""
    df, q = _students(confidence)
    return float(np.interp(quantile, q * (1 + _edgeworth(confidence) * (skew**2 + 1 / (df + 1))), df))
