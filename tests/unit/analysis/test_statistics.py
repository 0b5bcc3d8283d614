import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from specpress.analysis.statistics import (
    geometric_mean_interval,
    mean_interval,
    perplexity_interval,
    perplexity_ratio_interval,
)
from specpress.theory.intervals import among, joined

dyadic = st.integers(-3000, 3000).map(lambda k: k / 1024)  # sums are exact, so ties stay ties when everything moves
logs = st.lists(dyadic, min_size=3, max_size=20)


@settings(max_examples=60)
@given(logs)
def test_an_interval_contains_its_estimate_and_is_symmetric_on_the_log_scale(log_ratios):
    estimate = geometric_mean_interval(log_ratios)
    assert estimate.value == pytest.approx(np.exp(np.mean(log_ratios)))
    assert estimate.n == len(log_ratios)
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.low * estimate.high == pytest.approx(estimate.value**2)


@settings(max_examples=30)
@given(logs, dyadic)
def test_scaling_every_ratio_scales_the_interval(log_ratios, shift):
    plain = geometric_mean_interval(log_ratios)
    moved = geometric_mean_interval(np.asarray(log_ratios) + shift)
    assert np.log([moved.low, moved.high]) - shift == pytest.approx(np.log([plain.low, plain.high]), abs=1e-6)


@settings(max_examples=30)
@given(logs)
def test_more_confidence_never_gives_a_shorter_interval(log_ratios):
    narrow = mean_interval(log_ratios, confidence=0.8)
    wide = mean_interval(log_ratios, confidence=0.99)
    assert wide.low <= narrow.low + 1e-12
    assert wide.high >= narrow.high - 1e-12


def test_unskewed_units_get_students_t_but_for_the_skewness_that_few_cannot_show():
    values = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    estimate = geometric_mean_interval(values)
    half = stats.t.ppf(0.975, 4) * values.std(ddof=1) / np.sqrt(5)
    z = stats.norm.ppf(0.975)
    assert np.log(estimate.high) == pytest.approx(half * (1 + (z**4 + 2 * z**2 - 3) / 18 / 5))
    skewed = geometric_mean_interval([-0.5, -0.5, -0.5, -0.5, 2.0])
    assert np.log(skewed.high) > 1.5 * stats.t.ppf(0.975, 4) * np.std([-0.5, -0.5, -0.5, -0.5, 2.0], ddof=1) / np.sqrt(
        5
    )


def test_the_mean_of_what_cannot_be_negative_has_an_interval_that_is_not_either():
    estimate = mean_interval([0.0, 0.1, 1.0])
    assert 0 < estimate.low < estimate.value < estimate.high
    assert estimate.on_log_scale
    signed = mean_interval([-0.3, 0.1, 1.0])
    assert signed.low < 0
    assert not signed.on_log_scale


def test_nothing_but_zeros_has_the_mean_zero():
    estimate = mean_interval([0, 0, 0])
    assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    "estimated",
    [
        mean_interval,
        geometric_mean_interval,
        lambda values: perplexity_interval(values, np.ones(len(values))),
        lambda values: perplexity_ratio_interval(values, [2] * len(values), values, [1] * len(values)),
    ],
)
def test_fewer_than_three_units_have_a_value_and_no_interval_and_say_so(estimated, n):
    estimate = estimated([0.2, 0.5][:n])
    assert np.isfinite(estimate.value)
    assert (estimate.low, estimate.high, estimate.se, estimate.n) == (None, None, None, n)
    assert estimate.note == "fewer than three units: no interval"


def test_identical_values_have_an_interval_without_width_and_say_so():
    estimate = geometric_mean_interval([np.log(2)] * 5)
    assert (estimate.low, estimate.high) == (pytest.approx(2), pytest.approx(2))
    assert "alike" in estimate.note


def test_an_interval_as_one_of_many_is_that_of_a_higher_level():
    logs = np.random.default_rng(0).normal(size=12)
    estimate = geometric_mean_interval(logs)
    adjusted, other = among(estimate, 10), geometric_mean_interval(logs, confidence=0.995)
    assert (adjusted.low, adjusted.high) == (pytest.approx(other.low), pytest.approx(other.high))
    assert among(estimate, 1) == estimate
    assert among(geometric_mean_interval([0.1, 0.2]), 3).low is None
    with pytest.raises(ValueError, match="looked at"):
        among(estimate, 0)


def test_independent_parts_join_by_adding_variances():
    rng = np.random.default_rng(1)
    tokens, cost = mean_interval(1 + rng.gamma(2, size=20)), geometric_mean_interval(rng.normal(0.2, 0.05, size=30))
    whole = joined(tokens.value / cost.value, (tokens, cost), (1, -1))
    assert whole.se**2 == pytest.approx(tokens.se**2 + cost.se**2)
    halves = [np.log(part.high / part.value) for part in (tokens, cost)]
    assert np.log(whole.high / whole.value) == pytest.approx(np.hypot(*halves), rel=0.01)
    assert whole.n == tokens.n
    alone = joined(tokens.value, (tokens,), (1,))
    assert (alone.low, alone.high, alone.df) == pytest.approx((tokens.low, tokens.high, tokens.df), rel=0.02)
    inverse = joined(1 / cost.value, (cost,), (-1,))
    assert (inverse.low, inverse.high) == pytest.approx((1 / cost.high, 1 / cost.low), rel=1e-3)
    assert inverse.skew == pytest.approx(-cost.skew)


def test_a_part_without_an_interval_leaves_the_whole_without_one():
    few, many = geometric_mean_interval([0.1, 0.2]), geometric_mean_interval([0.1, 0.2, 0.4])
    whole = joined(1.3, (many, few), (1, -1), n=3)
    assert (whole.value, whole.low, whole.n, whole.note) == (1.3, None, 3, few.note)
    with pytest.raises(ValueError, match="one weight a part"):
        joined(1.3, (many,), (1, -1))
    with pytest.raises(ValueError, match="log scale"):
        joined(1.3, (mean_interval([-1, 0, 2]),), (1,))


@pytest.mark.parametrize(("values", "message"), [([], "non-empty"), ([0.1, float("inf")], "not finite")])
def test_values_without_a_mean_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        geometric_mean_interval(values)


def test_perplexity_weighs_passages_by_their_tokens():
    estimate = perplexity_interval([100.0, 300.0], [100, 100])
    assert estimate.value == pytest.approx(np.exp(2.0))
    longer = perplexity_interval([100.0, 900.0], [100, 300])
    assert longer.value == pytest.approx(np.exp(2.5))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(1, 1000), st.integers(1, 300)), min_size=2, max_size=12), st.floats(0.5, 2))
def test_a_perplexity_ratio_is_the_ratio_of_the_perplexities(passages, factor):
    nll, tokens = np.array(passages).T
    ratio = perplexity_ratio_interval(factor * nll, tokens, nll, tokens)
    log_ratio = np.log(ratio.value)
    assert log_ratio == pytest.approx((factor - 1) * nll.sum() / tokens.sum(), abs=1e-9)


def test_pairing_removes_the_difficulty_of_the_passages():
    rng = np.random.default_rng(3)
    tokens = np.full(10, 256)
    reference = tokens * rng.normal(3, 0.5, size=10)
    compressed = reference + tokens * rng.normal(0.1, 0.01, size=10)
    paired = perplexity_ratio_interval(compressed, tokens, reference, tokens)
    alone = perplexity_interval(compressed, tokens)
    assert paired.low > 1
    assert (paired.high - paired.low) / paired.value < 0.1 * (alone.high - alone.low) / alone.value


def test_a_press_that_changes_nothing_has_ratio_one():
    estimate = perplexity_ratio_interval([5.0, 6.0, 4.0], [2, 2, 2], [5.0, 6.0, 4.0], [2, 2, 2])
    assert (estimate.value, estimate.low, estimate.high) == (1, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [0]), "without scored tokens"),
        (([1.0, 2.0], [1]), "one nll and one token count"),
        (([], []), "non-empty"),
    ],
)
def test_perplexity_refuses_what_has_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        perplexity_interval(*arguments)


def test_unpaired_passages_are_refused():
    with pytest.raises(ValueError, match="paired passages"):
        perplexity_ratio_interval([1.0, 2.0], [1, 1], [1.0], [1])
