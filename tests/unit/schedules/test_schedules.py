from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specpress.schedules import AIMD, Confidence, Constant, Heuristic, Optimal, PlusMinusOne
from specpress.schedules.iteration import Iteration
from specpress.theory.expected import expected_speedup


def finished(gamma, accepted, *, proposed=None, seconds=1.0, draft_seconds=0.1):
    proposed = gamma if proposed is None else proposed
    return Iteration(gamma, proposed, accepted, accepted + 1, seconds, draft_seconds, slots=10)


def play(schedule, rounds):
    """Gammas after each round: True accepts all, False rejects one."""
    gammas = []
    for all_accepted in rounds:
        schedule.update(finished(schedule.gamma, schedule.gamma if all_accepted else schedule.gamma - 1))
        gammas.append(schedule.gamma)
    return gammas


def test_aimd_is_the_original_rule():
    rounds = [True] * 6 + [False, False, True]
    assert play(AIMD(), rounds) == [5, 6, 7, 8, 9, 10, 5, 4, 5]


def test_aimd_floor_and_cap():
    assert play(AIMD(initial=2, floor=1, cap=3), [True, True, False, False]) == [3, 3, 1, 1]


def test_aimd_starts_within_its_bounds():
    assert (AIMD(initial=2, floor=3).gamma, AIMD(initial=9, cap=6).gamma) == (3, 6)


def test_aimd_does_not_grow_on_a_round_that_was_cut_short():
    schedule = AIMD()
    schedule.update(finished(4, accepted=2, proposed=2))  # fewer proposed than asked for
    assert schedule.gamma == 4


@given(st.lists(st.booleans(), max_size=60))
def test_plus_minus_one_stays_in_its_bounds_and_moves_by_one(rounds):
    gammas = [4, *play(PlusMinusOne(floor=2, cap=7), rounds)]
    assert all(2 <= gamma <= 7 for gamma in gammas)
    assert all(abs(a - b) <= 1 for a, b in pairwise(gammas))


def test_heuristic_is_transformers_rule():
    assert play(Heuristic(), [True, False, False, True]) == [7, 6, 5, 7]
    assert play(Heuristic(initial=1), [False]) == [1]


@pytest.mark.parametrize(("make", "to_a_leaf", "cut"), [(AIMD, 7, 4), (PlusMinusOne, 7, 5), (Heuristic, 8, 5)])
def test_of_a_tree_all_is_accepted_that_ends_in_a_leaf(make, to_a_leaf, cut):
    """Six nodes, three of them kept: what counts is whether one was refused after the last."""
    for rejections, gamma in ((0, to_a_leaf), (1, cut)):
        schedule = make(6)
        schedule.update(Iteration(6, 6, 3, 4, 1.0, 0.1, slots=10, rejections=rejections))
        assert schedule.gamma == gamma


def test_constant_never_changes_and_never_stops():
    assert play(Constant(3), [True, False]) == [3, 3]
    assert not Constant(3).stop(0.0)


def test_confidence_stops_after_an_unsure_token():
    schedule = Confidence(0.5, cap=9)
    assert schedule.gamma == 9
    assert schedule.stop(0.49)
    assert not schedule.stop(0.5)


@pytest.mark.parametrize(("acceptance", "draft_cost"), [(0.5, 0.1), (0.9, 0.1), (0.8, 0.5), (0.2, 0.9)])
def test_optimal_finds_the_best_gamma(acceptance, draft_cost):
    schedule = Optimal(cap=16)
    for number in range(400):
        accepted = 0
        while accepted < 4 and (number * 7919 + accepted * 104729) % 1000 / 1000 < acceptance:
            accepted += 1
        schedule.update(finished(4, accepted, seconds=1 + 4 * draft_cost, draft_seconds=4 * draft_cost))
    measured = schedule._accepted / schedule._tested
    best = max(range(1, 17), key=lambda gamma: expected_speedup(measured, gamma, draft_cost, 1.0))
    assert schedule.gamma == best


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Constant(0), "gamma must be at least 1"),
        (lambda: AIMD(floor=0), "floor must be at least 1"),
        (lambda: AIMD(floor=5, cap=4), "cap \\(4\\) must not be under floor \\(5\\)"),
        (lambda: PlusMinusOne(floor=9, cap=4), "cap \\(4\\) must not be under floor \\(9\\)"),
        (lambda: Heuristic(0), "initial must be at least 1"),
        (lambda: Confidence(1.5), "threshold must lie in"),
        (lambda: Optimal(cap=0), "cap must be at least 1"),
    ],
)
def test_bad_parameters_are_refused(build, said):
    with pytest.raises(ValueError, match=said):
        build()
