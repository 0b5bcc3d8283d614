"""Whether 95% intervals cover: simulated studies of few and skewed units, every kind of estimate the paper prints."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from specpress.analysis.statistics import (
    geometric_mean_interval,
    mean_interval,
    perplexity_interval,
    perplexity_ratio_interval,
)
from specpress.theory.intervals import among, joined

UNITS = (3, 4, 8, 16, 40)
BAR = 0.93
STUDIES = 2000


def covered(estimates, truth):
    """The share of intervals with the truth in them; one without ends covers nothing."""
    return np.mean([e.low is not None and e.low <= truth <= e.high for e in estimates])


# Laws of a unit with mean zero: of a log ratio, whose skewness may have either sign.
LAWS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "lognormal": lambda rng, size: np.exp(0.5 * rng.normal(size=size)) - np.exp(0.125),  # skewness 1.75
    "gamma": lambda rng, size: rng.gamma(2, size=size) - 2,  # 1.41
    "exponential": lambda rng, size: 1 - rng.exponential(size=size),  # -2
    "mixture": lambda rng, size: rng.normal(size=size) + 3 * (rng.random(size) < 0.1) - 0.3,
}
# Laws of a positive unit (tokens a round, acceptance, milliseconds) and their means.
POSITIVE = {
    "shifted gamma": (lambda rng, size: 1 + rng.gamma(1.5, size=size), 2.5),
    "lognormal": (lambda rng, size: np.exp(0.5 * rng.normal(size=size)), np.exp(0.125)),
    "exponential": (lambda rng, size: rng.exponential(size=size), 1.0),
    "beta": (lambda rng, size: rng.beta(8, 1.5, size=size), 8 / 9.5),
}


@pytest.mark.parametrize("n", UNITS)
@pytest.mark.parametrize("law", LAWS)
def test_geometric_means_of_ratios_and_paired_contrasts(law, n):
    draws = 0.3 + 0.2 * LAWS[law](np.random.default_rng(n), (2 * STUDIES, n))
    assert covered(map(geometric_mean_interval, draws), np.exp(0.3)) >= BAR


@pytest.mark.parametrize("n", UNITS)
@pytest.mark.parametrize("law", POSITIVE)
def test_arithmetic_means(law, n):
    draw, mean = POSITIVE[law]
    assert covered(map(mean_interval, draw(np.random.default_rng(n), (STUDIES, n))), mean) >= BAR


def passages(rng, n):
    """Scored tokens a passage, and nats a token, skewed, of passages of unequal length."""
    tokens = rng.integers(60, 400, size=(STUDIES, n))
    return tokens, 2.5 + rng.gamma(2, 0.35, size=tokens.shape)


@pytest.mark.parametrize("n", UNITS)
def test_perplexities_weighted_by_tokens(n):
    tokens, nats = passages(np.random.default_rng(n), n)
    assert covered(map(perplexity_interval, tokens * nats, tokens), np.exp(3.2)) >= BAR


@pytest.mark.parametrize("n", UNITS)
def test_paired_ratios_of_perplexities(n):
    rng = np.random.default_rng(n)
    tokens, nats = passages(rng, n)
    harm = rng.gamma(2, 0.05, size=tokens.shape)
    ratios = map(perplexity_ratio_interval, tokens * (nats + harm), tokens, tokens * nats, tokens)
    assert covered(ratios, np.exp(0.1)) >= BAR


@pytest.mark.parametrize("n", UNITS)
@pytest.mark.parametrize("brackets", [6, 20])
def test_text_and_machine_joined(n, brackets):
    rng = np.random.default_rng(n)
    tokens = 1 + rng.gamma(1.5, size=(STUDIES, n))
    costs = np.log(1.15) + 0.1 * (rng.exponential(size=(STUDIES, brackets)) - 1)
    parts = [(mean_interval(t), geometric_mean_interval(c)) for t, c in zip(tokens, costs, strict=True)]
    assert covered((joined(t.value / c.value, (t, c), (1, -1)) for t, c in parts), 2.5 / 1.15) >= BAR


@pytest.mark.parametrize("n", UNITS)
def test_contrasts_of_two_joined_estimates(n):
    rng = np.random.default_rng(n)
    text = rng.gamma(2, 0.1, size=(STUDIES, n)) - 0.2  # log ratio of the tokens of two methods on the same prompts
    costs = 0.1 * (rng.exponential(size=(2, STUDIES, 20)) - 1)
    parts = [[geometric_mean_interval(units) for units in study] for study in zip(text, *costs, strict=True)]
    ratios = (joined(t.value / a.value * b.value, (t, a, b), (1, -1, 1)) for t, a, b in parts)
    assert covered(ratios, 1) >= BAR


@pytest.mark.parametrize("n", [4, 16, 40])
def test_intervals_adjusted_for_ten_looks_cover_all_ten_and_plain_ones_do_not(n):
    draws = np.random.default_rng(n).gamma(2, 0.1, size=(400, 10, n))
    estimates = [[geometric_mean_interval(units) for units in study] for study in draws]
    inside = np.array([[e.low <= np.exp(0.2) <= e.high for e in study] for study in estimates])
    adjusted = [[among(e, 10) for e in study] for study in estimates]
    # Of four units one of ten is often too wide to be printed: it claims nothing that could be wrong.
    without = np.array([[e.low is None for e in study] for study in adjusted])
    together = np.array([[e.low is None or e.low <= np.exp(0.2) <= e.high for e in study] for study in adjusted])
    assert together.all(axis=1).mean() >= BAR
    assert without.mean() < (0.25 if n == 4 else 0.001)
    assert inside.all(axis=1).mean() < 0.85


@pytest.mark.parametrize("n", [4, 8, 16])
def test_the_bar_is_one_that_the_bootstrap_and_the_normal_interval_miss(n):
    draws = LAWS["gamma"](np.random.default_rng(n), (600, n))
    options = {"n_resamples": 299, "vectorized": True, "method": "BCa", "rng": np.random.default_rng(0)}
    low, high = bootstrap((draws,), np.mean, axis=-1, **options).confidence_interval
    assert np.mean((low <= 0) & (high >= 0)) < BAR - 0.02
    half = 1.96 * draws.std(axis=1, ddof=1) / np.sqrt(n)
    assert np.mean(np.abs(draws.mean(axis=1)) <= half) < BAR - 0.02


def test_intervals_of_another_value_do_not_cover():
    draws = 0.3 + 0.2 * LAWS["gamma"](np.random.default_rng(0), (STUDIES, 40))
    assert covered(map(geometric_mean_interval, draws), np.exp(0.6)) < 0.2
