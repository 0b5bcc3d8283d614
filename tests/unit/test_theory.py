import pytest
from hypothesis import given
from hypothesis import strategies as st

from specpress.theory import expected_speedup, expected_tokens


@given(st.floats(0, 0.999), st.integers(0, 30))
def test_expected_tokens_is_the_papers_formula(a, gamma):
    assert expected_tokens(a, gamma) == pytest.approx((1 - a ** (gamma + 1)) / (1 - a))


def test_all_accepted_is_the_limit():
    assert expected_tokens(1.0, 4) == 5


@pytest.mark.parametrize(("acceptance", "best"), [(0.5, 2), (0.7, 4), (0.9, 10)])
def test_best_gamma_at_a_draft_cost_of_a_tenth(acceptance, best):
    assert max(range(1, 30), key=lambda gamma: expected_speedup(acceptance, gamma, 0.1)) == best


def test_no_draft_is_the_baseline():
    assert expected_speedup(0.3, 0, 0.1) == 1


def test_an_impossible_acceptance_is_refused():
    with pytest.raises(ValueError, match="acceptance must lie in"):
        expected_tokens(1.2, 3)
