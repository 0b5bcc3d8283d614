import numpy as np
import pytest
from scipy.stats import binomtest, multinomial

from specpress.theory.calibration import fewest_samples
from specpress.theory.proportions import change, is_able, proportion


@pytest.mark.parametrize(("found", "n"), [(0, 5), (5, 5), (3, 8), (11, 24)])
def test_the_interval_of_a_proportion_is_the_exact_one(found, n):
    estimate = proportion([1.0] * found + [0.0] * (n - found))
    exact = binomtest(found, n).proportion_ci(method="exact")
    assert (estimate.value, estimate.n) == (found / n, n)
    assert (estimate.low, estimate.high) == pytest.approx((exact.low, exact.high))


def coverage(law, n, interval):
    """Probability that `interval`, of counts of the three outcomes of `n` draws, holds: by enumeration."""
    counts = [(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)]
    return sum(multinomial.pmf(each, n, law) for each in counts if interval(*each))


@pytest.mark.parametrize("law", [(0.5, 0.5, 0), (0, 0.7, 0.3), (0.05, 0.05, 0.9), (0.9, 0.1, 0), (0.3, 0.4, 0.3)])
def test_intervals_of_scores_in_parts_cover(law):
    """Scores of 0, a half and 1."""
    truth = float(np.dot(law, (0, 0.5, 1)))

    def covers(nothing, half, all_):
        found = proportion([0.0] * nothing + [0.5] * half + [1.0] * all_)
        return found.low - 1e-12 <= truth <= found.high + 1e-12

    assert min(coverage(law, n, covers) for n in (6, 12)) > 0.95


@pytest.mark.parametrize("law", [(0.3, 0.6, 0.1), (0.05, 0.9, 0.05), (0.8, 0.2, 0), (0.5, 0, 0.5), (0.6, 0.1, 0.3)])
def test_intervals_of_paired_changes_cover(law):
    """Losses, ties and gains: the two are exclusive, which an interval that took them for independent would miss."""
    truth = float(np.dot(law, (-1, 0, 1)))

    def covers(lost, equal, gained):
        found = change([0.0] * lost + [1.0] * (equal + gained), [1.0] * (lost + equal) + [0.0] * gained)
        return found.low - 1e-12 <= truth <= found.high + 1e-12

    assert min(coverage(law, n, covers) for n in (6, 12)) > 0.94


@pytest.mark.parametrize("spread", [0.0, 0.25, 0.45])
def test_several_tasks_on_one_context_count_for_as_many_as_they_are_worth(spread):
    """Ten contexts that are easy or hard for all five tasks; taken for fifty draws, the last is covered too rarely."""
    rng, covered, naive, repeats = np.random.default_rng(0), 0, 0, 400
    units = np.repeat(np.arange(10), 5)
    for _ in range(repeats):
        chance = 0.5 + spread * rng.choice([-1, 1], 10)
        scores = (rng.uniform(size=50) < chance[units]).astype(float).tolist()
        ours, theirs = proportion(scores, units=units.tolist()), proportion(scores)
        assert ours.n == 10
        covered, naive = covered + (ours.low <= 0.5 <= ours.high), naive + (theirs.low <= 0.5 <= theirs.high)
    assert covered / repeats >= 0.94
    assert spread < 0.4 or naive / repeats < 0.9


def test_one_task_a_context_is_as_without_contexts():
    scores = [1.0, 0.0, 1.0, 1.0, 0.5, 1.0]
    exact, ours = proportion(scores), proportion(scores, units=list(range(6)))
    assert (ours.value, ours.n) == (exact.value, 6)
    assert ours.low <= exact.low < exact.high <= ours.high
    assert proportion([1.0] * 6, units=list(range(6))) == proportion([1.0] * 6)
    assert proportion([1.0, 0.0], units=["a", "a"]).n == 1


def test_a_change_is_paired_and_tells_a_loss_from_none():
    reference = [1.0] * 20
    assert change(reference, reference).value == 0
    assert change(reference, reference).low < 0 < change(reference, reference).high
    lost = change([0.0] * 14 + [1.0] * 6, reference)
    assert lost.value == -0.7
    assert lost.high < 0
    assert change(reference, [0.0] * 14 + [1.0] * 6).low > 0
    assert (
        change([0.0] * 6 + [1.0] * 10, [1.0] * 16).high < 0
    )  # six lost of sixteen and none gained: McNemar's p is 0.03
    assert change([0.0] * 4 + [1.0] * 12, [1.0] * 16).high > 0
    assert change([1.0] * 3, [0.0] * 3).value == 1


@pytest.mark.parametrize("scores", [[], [1.2], [-0.1, 0.5]])
def test_what_is_no_score_is_refused(scores):
    with pytest.raises(ValueError, match="from 0 to 1"):
        proportion(scores)
    with pytest.raises(ValueError, match="paired scores expected"):
        change([1.0], [1.0, 0.0])


@pytest.mark.parametrize("bar", [0.2, 0.5, 0.8, 0.9])
def test_a_task_passes_where_the_lower_end_reaches_the_bar_and_so_many_samples_are_needed_for_it(bar):
    n = fewest_samples(bar)
    assert is_able([1.0] * n, bar)
    assert not is_able([1.0] * (n - 1), bar)
    assert not is_able([1.0] * (n - 1) + [0.0], bar)
    scores = [1.0] * 16 + [0.0] * 4
    assert is_able(scores, proportion(scores).low)
    assert not is_able(scores, proportion(scores).low + 1e-9)


def test_contexts_that_are_all_alike_count_once_each():
    """Of ten contexts, each right or wrong as a whole, none is wrong one time in three where a tenth of them are."""
    assert proportion([1.0] * 50, units=[i // 5 for i in range(50)]).low == proportion([1.0] * 10).low
