"""What a duel says: costs from brackets, speed-ups from costs and counts, and intervals that cover, by simulation."""

import math
from dataclasses import astuple

import numpy as np
import pytest

from specpress.theory.costs import Brackets, Costs, costs
from specpress.theory.duels import (
    Joint,
    Stretches,
    Text,
    forgotten,
    is_precise,
    log_speedups,
    looks,
    speedup,
    welch_satterthwaite,
)

VERIFY, DRAFT = ("verification", 5), ("drafting", 4)
COSTS = {DRAFT: 0.5, VERIFY: 1.1}


def noisy(rng, kinds, costs=COSTS, *, load=0.0) -> Brackets:
    """Parts between steps of 20 ms; a share `load` of all, whichever they are, takes up to ten times as long."""

    def seconds(steps):
        return 0.02 * steps * rng.lognormal(0, 0.05) * (rng.uniform(1, 10) if rng.uniform() < load else 1)

    rows, before = [], seconds(1)
    for part, size in kinds:
        rows.append((part, size, seconds(costs[part, size]), before, before := seconds(1)))
    return Brackets(*zip(*rows, strict=True))


def test_costs_are_the_medians_over_both_neighbours_however_many_are_disturbed():
    brackets = noisy(np.random.default_rng(0), [DRAFT, VERIFY] * 300, load=0.2)
    found = costs(brackets, [DRAFT, VERIFY])
    assert found[DRAFT] == pytest.approx(0.5, rel=0.03)
    assert found[VERIFY] == pytest.approx(1.1, rel=0.03)
    mean = np.mean(brackets.seconds[::2]) / np.mean(brackets.before[::2])  # what the sums would say
    assert abs(math.log(mean / 0.5)) > abs(math.log(found[DRAFT] / 0.5))


def test_a_part_as_long_as_a_step_costs_one_however_skewed_the_disturbance():
    """Over 200 controls the median lies as often above one as below; over the mean of two neighbours it does not."""
    rng, ours, other = np.random.default_rng(1), [], []
    for _ in range(200):
        brackets = noisy(rng, [("verification", 1)] * 60, {("verification", 1): 1.0}, load=0.3)
        ours.append(math.log(costs(brackets, [])["verification", 1]))
        logs = np.log(brackets.seconds) - (np.log(brackets.before) + np.log(brackets.after)) / 2
        other.append(np.median(logs))
    error = np.std(ours) / math.sqrt(len(ours))
    assert abs(np.mean(ours)) < 3 * error
    assert abs(np.mean(other)) > 3 * error


def test_sizes_with_few_brackets_lie_on_the_line_through_the_others():
    kinds = [("verification", size) for size in (2, 4, 6) for _ in range(20)] + [("verification", 5)]
    true = {("verification", size): 1 + 0.05 * size for size in range(20)}
    found = costs(noisy(np.random.default_rng(2), kinds, true), [("verification", 5), ("verification", 8)])
    for size in (2, 4, 5, 6, 8):
        assert found["verification", size] == pytest.approx(1 + 0.05 * size, rel=0.04)
    alone = costs(noisy(np.random.default_rng(2), kinds[:20], true), [("verification", 8)])
    assert alone["verification", 8] == alone["verification", 2]
    assert costs(noisy(np.random.default_rng(2), kinds, true), [("drafting", 3)]).keys().isdisjoint({("drafting", 3)})


@pytest.mark.parametrize("counts", [(30, 30), (9, 3), (2, 1), (20, 6)])
def test_costs_of_many_samples_at_once_are_those_of_each(counts):
    """With kinds that a sample holds often, seldom, or not at all; the plain way is the oracle."""
    rng = np.random.default_rng(sum(counts))
    kinds = [("verification", 2), ("verification", 5)] * counts[0] + [("drafting", 4), ("verification", 9)] * counts[1]
    true = dict(zip(dict.fromkeys(kinds), (1.1, 1.2, 0.4, 1.5), strict=True))
    classes = Costs(noisy(rng, kinds, true, load=0.2), [("verification", 7), ("rest", 1)])
    samples = [rng.integers(len(kinds), size=len(kinds)) for _ in range(40)]
    found = classes.of_samples(np.stack([np.bincount(sample, minlength=len(kinds)) for sample in samples]))
    for sample, row in zip(samples, found, strict=True):
        one = classes.of_sample(sample)
        assert row == pytest.approx([one.get(kind, math.nan) for kind in classes.kinds], rel=1e-12, nan_ok=True)


def test_a_speedup_is_tokens_over_the_cost_of_their_rounds():
    texts = [Text(30, {DRAFT: 10, VERIFY: 12}), Text(20, {VERIFY: 16})]
    assert log_speedups(texts, COSTS) == pytest.approx(np.log([30 / (5 + 13.2), 20 / 17.6]))


def texts_of(rng, prompts):
    """Prompts of 30 to 60 rounds with skewed numbers of tokens; a round gives 2.5 on average."""
    yields = 1 + 1.5 * rng.lognormal(-0.02, 0.2, prompts)
    return [Text(y * n, {DRAFT: n, VERIFY: n}) for y, n in zip(yields, rng.integers(30, 60, prompts), strict=True)]


TRUE = np.mean(np.log(1 + 1.5 * np.random.default_rng(9).lognormal(-0.02, 0.2, 100_000)) - math.log(1.6))


@pytest.mark.parametrize(("prompts", "load"), [(3, 0.0), (8, 0.0), (16, 0.2), (40, 0.2)])
def test_the_interval_of_a_speedup_covers(prompts, load):
    rng, covered, repeats = np.random.default_rng(prompts), 0, 100
    for _ in range(repeats):
        found = speedup(texts_of(rng, prompts), noisy(rng, [DRAFT, VERIFY] * 40, load=load))
        covered += abs(found.value - TRUE) <= found.half_width()
    assert covered / repeats >= 0.93


@pytest.mark.parametrize("load", [0.0, 0.2])
def test_the_interval_covers_where_costs_rest_on_the_first_prompts_and_others_are_only_counted(load):
    """Three prompts are duelled, then those that the costs need, until the budget of four duels is spent."""
    rng, covered, repeats, prompts = np.random.default_rng(1), 0, 200, []
    for _ in range(repeats):
        brackets, texts, spent = noisy(rng, [DRAFT, VERIFY] * 24, load=load), texts_of(rng, 3), 3.0
        while spent < 4:
            share = speedup(texts, brackets).machine_share
            if share is None or share > 0.25:
                more = noisy(rng, [DRAFT, VERIFY] * 8, load=load)
                brackets = Brackets(*((*a, *b) for a, b in zip(astuple(brackets), astuple(more), strict=True)))
                texts, spent = texts + texts_of(rng, 1), spent + 1
            else:
                texts, spent = texts + texts_of(rng, 5), spent + 0.7
        found = speedup(texts, brackets)
        covered += abs(found.value - TRUE) <= found.half_width()
        prompts.append(len(texts))
    assert covered / repeats >= 0.93
    assert np.mean(prompts) > 8  # or nothing was only counted


@pytest.mark.parametrize(("spread", "precision"), [(0.2, 0.1), (0.1, 0.05), (0.2, 0.05)])
def test_the_interval_covers_though_measuring_stops_when_it_is_narrow(spread, precision):
    """Prompts whose logs scatter, skewed; costs known. Without a first look at eight and a wider error it is below."""
    rng, repeats, sizes = np.random.default_rng(0), 1000, looks(3, 250)
    covered, naive = 0, 0
    for _ in range(repeats):
        raw = rng.lognormal(0, 0.3, 250)
        logs = spread * (raw - math.exp(0.045)) / math.sqrt((math.exp(0.09) - 1) * math.exp(0.09))
        for rule in ("ours", "naive"):
            for n in sizes:
                error = logs[:n].std(ddof=1) / math.sqrt(n) * (1.1 if rule == "ours" else 1)
                joint = Joint(float(logs[:n].mean()), 0.0, 10, error, n - 1, n, drafts=True)
                narrow = is_precise(joint, precision) if rule == "ours" else joint.half_width() <= precision
                if narrow:
                    break
            hit = abs(joint.value) <= joint.half_width()
            covered, naive = covered + (hit and rule == "ours"), naive + (hit and rule == "naive")
    assert covered / repeats >= 0.93
    assert naive < covered


def test_a_few_prompts_that_agree_end_no_measurement_of_what_drafts():
    rng = np.random.default_rng(2)
    drafted = speedup([Text(40, {DRAFT: 10, VERIFY: 10})] * 3, noisy(rng, [DRAFT, VERIFY] * 60))
    plain = speedup([Text(40, {VERIFY: 40})] * 3, noisy(rng, [VERIFY] * 120))
    assert drafted.half_width() < 0.1
    assert not is_precise(drafted, 0.1)
    assert is_precise(plain, 0.1)
    assert drafted.estimate().note == "all prompts alike: the interval is the machine's alone"
    assert plain.estimate().note == ""


def test_both_uncertainties_are_said_apart_and_joined():
    rng = np.random.default_rng(3)
    few = speedup(texts_of(rng, 40), noisy(rng, [DRAFT, VERIFY] * 8))
    many = speedup(texts_of(rng, 40), noisy(rng, [DRAFT, VERIFY] * 200))
    assert many.machine < few.machine
    assert many.machine_share < few.machine_share < 1
    assert few.error == pytest.approx(math.hypot(few.machine, few.text))
    assert min(few.machine_freedom, few.text_freedom) <= few.estimate().df <= few.machine_freedom + few.text_freedom
    assert welch_satterthwaite([(1.0, 4), (0.0, 9)]) == pytest.approx(4)
    assert welch_satterthwaite([(1.0, 4), (1.0, 4)]) == pytest.approx(8)


def test_there_is_no_interval_for_fewer_than_three_prompts():
    rng = np.random.default_rng(4)
    assert speedup(texts_of(rng, 2), noisy(rng, [DRAFT, VERIFY] * 20)).half_width() is None
    with pytest.raises(ValueError, match="no bracket measured the cost of drafting"):
        speedup(texts_of(rng, 4), noisy(rng, [VERIFY] * 20))


@pytest.mark.parametrize(("forgot", "seen"), [(1.0, False), (1.03, False), (1.3, True)])
def test_what_the_parts_leave_out_shows_in_whole_rounds(forgot, seen):
    rng = np.random.default_rng(5)
    whole = noisy(rng, [("whole", 2)] * 40, {("whole", 2): 2 * 1.6 * forgot})
    stretches = Stretches([{DRAFT: 2, VERIFY: 2}] * 40, whole.seconds, whole.before, whole.after)
    check = forgotten(noisy(rng, [DRAFT, VERIFY] * 60), stretches, tolerance=0.05, once_in=1000)
    assert check["ratio"] == pytest.approx(forgot, rel=0.04)
    assert check["disagrees"] == seen


def test_looks_are_further_and_further_apart():
    assert looks(3, 12) == [3, 4, 6, 8, 11, 12]
    assert looks(4, 4) == [4]
