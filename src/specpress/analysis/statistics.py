"""Estimates with bootstrap intervals, from paired measurements.

A speed-up is a ratio of two times of the same prompt, so the unit that is resampled is the prompt (the passage, for
perplexity), never the single run: repeats of a prompt are averaged first.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import DegenerateDataWarning, bootstrap


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Parameters
    ----------
    value : float
        The point estimate.
    low, high : float or None
        Ends of the interval; None where there is none, and then `note` says why.
    n : int
        Resampled units: prompts or passages.
    note : str
        How the interval came about, when it is not the plain BCa bootstrap.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    note: str = ""


def paired_ratio(baseline: ArrayLike, method: ArrayLike) -> np.ndarray:
    """Log ratio baseline / method of each prompt, averaged over repeats.

    Parameters
    ----------
    baseline, method : array_like, shape (prompts,) or (prompts, repeats)
        Paired positive measurements in the same unit (say ms per token). A ratio above 1 means the method is faster.

    Returns
    -------
    ndarray, shape (prompts,)
        Natural logarithm of the ratio; the mean over the repeats of a prompt.

    Raises
    ------
    ValueError
        If the shapes differ or a measurement is not a positive finite number.
    """
    baseline, method = np.asarray(baseline, dtype=float), np.asarray(method, dtype=float)
    if baseline.shape != method.shape or baseline.ndim not in (1, 2):
        raise ValueError(
            "paired measurements have one shape, (prompts,) or (prompts, repeats); "
            f"baseline has {baseline.shape}, method {method.shape}"
        )
    for name, values in (("baseline", baseline), ("method", method)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"{name} holds a measurement that is not a positive finite number: drop such pairs first")
    ratios = np.log(baseline) - np.log(method)
    return ratios if ratios.ndim == 1 else ratios.mean(axis=1)


def mean_interval(values: ArrayLike, *, confidence: float = 0.95, resamples: int = 9999, seed: int = 0) -> Estimate:
    """Arithmetic mean over units, with a bootstrap interval over the units.

    Parameters
    ----------
    values : array_like, shape (units,)
        One finite number a prompt.
    confidence : float
        Coverage of the interval, between 0 and 1.
    resamples, seed : int
        Bootstrap resamples and the seed of their generator.

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
    return _bootstrap(
        lambda sample, axis: np.mean(sample, axis=axis),
        (values,),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def geometric_mean_interval(
    log_ratios: ArrayLike, *, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Estimate:
    """Geometric mean of the ratios whose logarithms are given, with a bootstrap interval over the prompts.

    The interval is that of the mean logarithm, exponentiated. Parameters and errors are those of `mean_interval`.

    Returns
    -------
    Estimate
        A ratio (no unit).
    """
    mean = mean_interval(log_ratios, confidence=confidence, resamples=resamples, seed=seed)
    return _transformed(mean, np.exp)


def perplexity_interval(
    nll: ArrayLike, n_tokens: ArrayLike, *, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Estimate:
    """Token-weighted perplexity, exp(sum of nll / sum of tokens), with a bootstrap interval over the passages.

    Parameters
    ----------
    nll : array_like, shape (passages,)
        Summed negative log likelihood of each passage, in nats.
    n_tokens : array_like, shape (passages,)
        Scored tokens of each passage.
    confidence, resamples, seed
        As in `mean_interval`.

    Raises
    ------
    ValueError
        If the shapes differ, a value is not finite, or a passage has no token.
    """
    nll, n_tokens = _passages(nll, n_tokens)

    def mean_nll(nll, n_tokens, axis):
        return nll.sum(axis=axis) / n_tokens.sum(axis=axis)

    mean = _bootstrap(mean_nll, (nll, n_tokens), confidence=confidence, resamples=resamples, seed=seed)
    return _transformed(mean, np.exp)


def perplexity_ratio_interval(
    nll: ArrayLike,
    n_tokens: ArrayLike,
    reference_nll: ArrayLike,
    reference_n_tokens: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Estimate:
    """Perplexity over the reference perplexity of the same passages; passages are resampled together.

    Parameters and errors are those of `perplexity_interval`, all four arrays of shape (passages,). A ratio above 1
    means a worse perplexity than the reference.
    """
    ours = _passages(nll, n_tokens)
    reference = _passages(reference_nll, reference_n_tokens)
    if ours[0].shape != reference[0].shape:
        raise ValueError(f"paired passages expected; got {ours[0].size} and {reference[0].size} of them")

    def difference(nll, n_tokens, reference_nll, reference_n_tokens, axis):
        return nll.sum(axis=axis) / n_tokens.sum(axis=axis) - reference_nll.sum(axis=axis) / reference_n_tokens.sum(
            axis=axis
        )

    mean = _bootstrap(difference, (*ours, *reference), confidence=confidence, resamples=resamples, seed=seed)
    return _transformed(mean, np.exp)


def repeat_spread(log_ratios: ArrayLike) -> Estimate:
    """How far repeats of the same prompt scatter: the pooled within-prompt standard deviation, as a factor.

    Parameters
    ----------
    log_ratios : array_like, shape (prompts, repeats)
        Log ratio of each run; NaN marks a repeat that is missing.

    Returns
    -------
    Estimate
        exp of the pooled standard deviation: 1.05 means repeats scatter by about 5%. Never an interval.

    Raises
    ------
    ValueError
        If no prompt has two repeats.
    """
    log_ratios = np.asarray(log_ratios, dtype=float)
    if log_ratios.ndim != 2:
        raise ValueError(f"expected an array of shape (prompts, repeats), got {log_ratios.shape}")
    present = np.isfinite(log_ratios)
    counts = present.sum(axis=1)
    if not (counts >= 2).any():
        raise ValueError("the spread over repeats needs a prompt with at least two repeats")
    repeated = log_ratios[counts >= 2]
    squares = np.nansum((repeated - np.nanmean(repeated, axis=1, keepdims=True)) ** 2)
    freedom = (counts[counts >= 2] - 1).sum()
    return Estimate(float(np.exp(np.sqrt(squares / freedom))), None, None, int((counts >= 2).sum()), "no interval")


def _bootstrap(statistic, samples: tuple[np.ndarray, ...], *, confidence, resamples, seed) -> Estimate:
    """Bootstrap paired samples: BCa, percentile where BCa is undefined (all units alike), nothing for one unit."""
    n = samples[0].size
    value = float(statistic(*samples, axis=-1))
    if n == 1:
        return Estimate(value, None, None, 1, "one unit: no interval")
    low = high = np.nan
    note = ""
    for method in ("BCa", "percentile"):
        note = "" if method == "BCa" else "percentile interval: BCa is undefined for these values"
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", DegenerateDataWarning)
            low, high = bootstrap(
                samples,
                statistic,
                paired=True,
                vectorized=True,
                n_resamples=resamples,
                batch=1000,
                confidence_level=confidence,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if np.isfinite([low, high]).all():
            break
    return Estimate(value, float(low), float(high), n, note)


def _transformed(estimate: Estimate, function) -> Estimate:
    """The estimate under an increasing function: value and ends alike."""
    low, high = (None if end is None else float(function(end)) for end in (estimate.low, estimate.high))
    return Estimate(float(function(estimate.value)), low, high, estimate.n, estimate.note)


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
