"""Estimates with intervals, from units: prompts (passages, for perplexity), never single runs.

Every estimate is treated as a mean over its units on the log scale, where
ratios are symmetric and nothing turns negative: of log ratios by itself, of positive quantities by the delta method, of
perplexities by the jackknife's pseudo-values (Tukey, 1958). `specpress.theory.intervals` says how its interval is made
of the standard error, and joins estimates that are independent of each other.
"""

import numpy as np
from numpy.typing import ArrayLike

from specpress.theory.intervals import CONFIDENCE, FEWEST, Estimate, mean_error, with_interval


def mean_interval(values: ArrayLike, *, confidence: float = CONFIDENCE) -> Estimate:
    """Arithmetic mean over units, with its interval.

    Parameters
    ----------
    values : array_like, shape (units,)
        One finite number a prompt. Where none is negative, the interval is made on the log scale of the mean.
    confidence : float
        Coverage of the interval, between 0 and 1.

    Returns
    -------
    Estimate
        In the unit of `values`.

    Raises
    ------
    ValueError
        If there is no value, or one that is not finite.
    """
    values = _finite("values", values)
    mean, se, skew = mean_error(values)
    if (values < 0).any() or mean == 0 or se is None:
        return with_interval(Estimate(mean, None, None, values.size, "", se, values.size - 1, skew, False), confidence)
    relative = se / mean
    on_log_scale = Estimate(mean, None, None, values.size, "", relative, values.size - 1, skew - 3 * relative)
    return with_interval(on_log_scale, confidence)


def geometric_mean_interval(log_ratios: ArrayLike, *, confidence: float = CONFIDENCE) -> Estimate:
    """Geometric mean of the ratios whose logarithms are given, with its interval over the prompts.

    Parameters and errors are those of `mean_interval`.

    Returns
    -------
    Estimate
        A ratio (no unit).
    """
    return _exponential(_finite("log_ratios", log_ratios), None, confidence)


def perplexity_interval(nll: ArrayLike, n_tokens: ArrayLike, *, confidence: float = CONFIDENCE) -> Estimate:
    """Token-weighted perplexity, exp(sum of nll / sum of tokens), with its interval over the passages.

    Parameters
    ----------
    nll : array_like, shape (passages,)
        Summed negative log likelihood of each passage, in nats.
    n_tokens : array_like, shape (passages,)
        Scored tokens of each passage.
    confidence
        As in `mean_interval`.

    Raises
    ------
    ValueError
        If the shapes differ, a value is not finite, or a passage has no token.
    """
    nll, n_tokens = _passages(nll, n_tokens)
    return _exponential(_pseudo_values(nll, n_tokens), nll.sum() / n_tokens.sum(), confidence)


def perplexity_ratio_interval(
    nll: ArrayLike,
    n_tokens: ArrayLike,
    reference_nll: ArrayLike,
    reference_n_tokens: ArrayLike,
    *,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Perplexity over the reference perplexity of the same passages, paired by passage.

    Parameters and errors are those of `perplexity_interval`, all four arrays of shape (passages,). A ratio above 1
    means a worse perplexity than the reference.
    """
    ours = _passages(nll, n_tokens)
    reference = _passages(reference_nll, reference_n_tokens)
    if ours[0].shape != reference[0].shape:
        raise ValueError(f"paired passages expected; got {ours[0].size} and {reference[0].size} of them")
    mean, reference_mean = (scored.sum() / tokens.sum() for scored, tokens in (ours, reference))
    return _exponential(_pseudo_values(*ours) - _pseudo_values(*reference), mean - reference_mean, confidence)


def _exponential(logs: np.ndarray, center: float | None, confidence: float) -> Estimate:
    """exp of the mean of `logs` (or of `center`, of which they are the pseudo-values), with its interval."""
    mean, se, skew = mean_error(logs)
    value = float(np.exp(mean if center is None else center))
    return with_interval(Estimate(value, None, None, logs.size, "", se, logs.size - 1, skew), confidence)


def _pseudo_values(nll: np.ndarray, n_tokens: np.ndarray) -> np.ndarray:
    """The jackknife's pseudo-values of sum(nll) / sum(n_tokens): n x the whole - (n - 1) x that without one."""
    n = nll.size
    if n < FEWEST:
        return nll / n_tokens
    without = (nll.sum() - nll) / (n_tokens.sum() - n_tokens)
    return n * nll.sum() / n_tokens.sum() - (n - 1) * without


def _finite(name: str, values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name} must be a non-empty list of numbers, got an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name} holds {int((~np.isfinite(values)).sum())} values that are not finite: drop them first"
        )
    return values


def _passages(nll: ArrayLike, n_tokens: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    nll, n_tokens = _finite("nll", nll), _finite("n_tokens", n_tokens)
    if nll.shape != n_tokens.shape:
        raise ValueError(f"one nll and one token count a passage; got {nll.size} and {n_tokens.size}")
    if (n_tokens <= 0).any():
        raise ValueError("a passage without scored tokens has no perplexity")
    return nll, n_tokens
