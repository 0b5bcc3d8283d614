"""A drafter whose estimates are right, on a machine whose rounds have their price: the size has to be the best."""

import random
from statistics import fmean

import pytest

from specpress.schedules import Constant, OptimalTree
from specpress.schedules.iteration import Iteration

ESTIMATES = [0.6 * 0.8**i for i in range(16)]  # of the nodes of a tree, in the order they are added


def tokens(nodes):
    return 1 + sum(ESTIMATES[:nodes])


def play(schedule, seconds, *, rounds=200, honest=1.0, disturbed=0.0):
    """Sizes of the trees of each round; `honest`: kept tokens over promised ones."""
    draw, sizes = random.Random(0), []
    for _ in range(rounds):
        size = next((n for n, p in enumerate(ESTIMATES, 1) if schedule.stop(p) or n == schedule.gamma), None)
        kept = int(draw.random() < (promised := honest * sum(ESTIMATES[:size])) % 1) + int(promised)
        slow = 10 if draw.random() < disturbed else 1
        spent = slow * seconds(size) * draw.uniform(0.95, 1.05)
        schedule.learn(Iteration(schedule.gamma, size, kept, kept + 1, spent, 0.0, slots=10))
        sizes.append(size)
    return sizes


@pytest.mark.parametrize("each", [0.002, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("disturbed", [0, 0.05])
def test_little_is_lost_to_the_best_size(each, disturbed):
    def speed(nodes):
        return tokens(nodes) / seconds(nodes)

    def seconds(nodes):
        return 0.02 * (1 + each * nodes)

    best = max(map(speed, range(1, 17)))
    assert fmean(map(speed, play(OptimalTree(), seconds, disturbed=disturbed)[8:])) > 0.93 * best
    assert min(speed(1), speed(16)) < 0.75 * best


def test_estimates_that_promise_too_much_are_discounted():
    honest = play(OptimalTree(), lambda nodes: 1 + 0.1 * nodes)
    boasting = play(OptimalTree(), lambda nodes: 1 + 0.1 * nodes, honest=0.3)
    assert sum(boasting[100:]) < 0.8 * sum(honest[100:])


def test_a_round_without_a_tree_teaches_what_a_step_costs():
    schedule = OptimalTree(cap=4)
    for _ in range(4):
        schedule.learn(Iteration(4, 0, 0, 1, 1.0, 0.0, slots=10))
    assert not schedule.stop(0.5)
    assert schedule.stop(0.001)


def test_refuses_what_is_no_size_or_cost():
    with pytest.raises(ValueError, match="cap must be at least 1 token"):
        OptimalTree(cap=0)
    with pytest.raises(ValueError, match="row_cost must not be negative"):
        OptimalTree(row_cost=-0.1)
    assert OptimalTree(cap=5).gamma == 5 != Constant().gamma
