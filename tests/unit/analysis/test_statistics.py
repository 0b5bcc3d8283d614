import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specpress.analysis.statistics import (
    geometric_mean_interval,
    mean_interval,
    paired_ratio,
    perplexity_interval,
    perplexity_ratio_interval,
    repeat_spread,
)

times = st.floats(0.1, 1e4)
dyadic = st.integers(-3000, 3000).map(lambda k: k / 1024)  # sums are exact, so ties stay ties when everything moves
logs = st.lists(dyadic, min_size=2, max_size=20)
FEW = 199


def test_the_ratio_of_a_prompt_is_baseline_over_method():
    assert np.exp(paired_ratio([20.0, 30.0], [10.0, 60.0])) == pytest.approx([2.0, 0.5])


def test_repeats_are_averaged_on_the_log_scale_before_anything_else():
    ratios = paired_ratio([[10.0, 40.0], [8.0, 8.0]], [[10.0, 10.0], [4.0, 4.0]])
    assert np.exp(ratios) == pytest.approx([2.0, 2.0])


@given(st.lists(st.tuples(times, times), min_size=1, max_size=20))
def test_swapping_the_roles_inverts_every_ratio(pairs):
    baseline, method = map(list, zip(*pairs, strict=True))
    assert paired_ratio(baseline, method) == pytest.approx(-paired_ratio(method, baseline))


@pytest.mark.parametrize(
    ("baseline", "method", "message"),
    [
        ([1.0, 2.0], [1.0], "one shape"),
        ([1.0, 0.0], [1.0, 1.0], "baseline holds"),
        ([1.0, 1.0], [1.0, float("nan")], "method holds"),
        (1.0, 1.0, "one shape"),
    ],
)
def test_impossible_pairs_are_refused(baseline, method, message):
    with pytest.raises(ValueError, match=message):
        paired_ratio(baseline, method)


@settings(max_examples=60)
@given(logs)
def test_an_interval_contains_its_estimate_and_lies_within_the_data(log_ratios):
    estimate = geometric_mean_interval(log_ratios, resamples=FEW)
    assert estimate.value == pytest.approx(np.exp(np.mean(log_ratios)))
    assert estimate.n == len(log_ratios)
    tolerance = 1e-9
    assert np.exp(min(log_ratios)) - tolerance <= estimate.low <= estimate.high <= np.exp(max(log_ratios)) + tolerance


@settings(max_examples=30)
@given(logs, dyadic)
def test_scaling_every_ratio_scales_the_interval(log_ratios, shift):
    plain = mean_interval(log_ratios, resamples=FEW)
    moved = mean_interval(np.asarray(log_ratios) + shift, resamples=FEW)
    if not plain.note and not moved.note:
        assert (moved.low - shift, moved.high - shift) == pytest.approx((plain.low, plain.high), abs=1e-6)


@settings(max_examples=30)
@given(logs)
def test_more_confidence_never_gives_a_shorter_interval(log_ratios):
    narrow = mean_interval(log_ratios, confidence=0.8, resamples=FEW)
    wide = mean_interval(log_ratios, confidence=0.99, resamples=FEW)
    assert wide.low <= narrow.low + 1e-12
    assert wide.high >= narrow.high - 1e-12


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(0).normal(size=12)
    assert geometric_mean_interval(values, seed=1) == geometric_mean_interval(values, seed=1)
    assert geometric_mean_interval(values, seed=1) != geometric_mean_interval(values, seed=2)


@pytest.mark.parametrize("n", [12, 30])
def test_the_interval_covers_the_true_mean_about_as_often_as_it_says(n):
    rng = np.random.default_rng(7)
    draws = rng.normal(0.3, 0.2, size=(400, n))
    estimates = [geometric_mean_interval(row, resamples=499, seed=i) for i, row in enumerate(draws)]
    covered = np.mean([e.low <= np.exp(0.3) <= e.high for e in estimates])
    assert 0.87 <= covered <= 0.985  # nominal 0.95; the bootstrap is a little short at a dozen prompts
    misses_the_wrong_mean = np.mean([not e.low <= np.exp(0.6) <= e.high for e in estimates])
    assert misses_the_wrong_mean > 0.95


def test_one_prompt_has_no_interval_and_says_so():
    estimate = geometric_mean_interval([np.log(2)])
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (pytest.approx(2), None, None, 1)
    assert "no interval" in estimate.note


def test_identical_values_fall_back_to_the_percentile_interval():
    estimate = geometric_mean_interval([np.log(2)] * 5)
    assert (estimate.low, estimate.high) == (pytest.approx(2), pytest.approx(2))
    assert "percentile" in estimate.note


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
    ratio = perplexity_ratio_interval(factor * nll, tokens, nll, tokens, resamples=FEW)
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
    estimate = perplexity_ratio_interval([5.0, 6.0], [2, 2], [5.0, 6.0], [2, 2])
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


def test_the_spread_over_repeats_pools_the_prompts_and_ignores_their_levels():
    spread = repeat_spread([[0.0, 0.2], [1.0, 1.2]])
    assert spread.value == pytest.approx(np.exp(np.sqrt(0.02)))
    assert spread.n == 2
    with_gap = repeat_spread([[0.0, 0.2], [1.0, np.nan]])
    assert (with_gap.value, with_gap.n) == (pytest.approx(spread.value), 1)


def test_one_repeat_has_no_spread():
    with pytest.raises(ValueError, match="at least two repeats"):
        repeat_spread([[0.1], [0.2]])
