"""Verification by exact enumeration: every drafted sequence, every outcome, in float64."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specpress.laws.law import Law, law_of, point
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.speculation.verification import BlockPlan, TokenPlan, residual, verify

RULES = {"token": TokenPlan, "block": BlockPlan}


def on_support(dense):
    """A law over the vocabulary on its support, in any order; a token under 0.05 is cut off, as by a nucleus."""
    tokens = (dense >= min(0.05, dense.max())).nonzero().squeeze(-1).flip(0).numpy()
    return Law(tokens, dense.double().numpy()[tokens] / dense.double().numpy()[tokens].sum())


def random_tables(vocabulary, gamma, seed, sharpness=2.0):
    """Conditional laws of target and draft for every prefix of up to gamma tokens: dicts prefix -> Law."""
    generator = torch.Generator().manual_seed(seed)
    prefixes = [p for n in range(gamma + 1) for p in itertools.product(range(vocabulary), repeat=n)]

    def table():
        noise = torch.randn(len(prefixes), vocabulary, generator=generator, dtype=torch.float64) * sharpness
        return {prefix: on_support(law) for prefix, law in zip(prefixes, torch.softmax(noise, -1), strict=True)}

    return table(), table()


def outcomes(plan, gamma):
    """(accepted, probability) from the rule's own acceptance probabilities."""
    h = [plan.probability(i) for i in range(gamma)]
    if isinstance(plan, TokenPlan):
        for accepted in range(gamma + 1):
            rejected = 1 - h[accepted] if accepted < gamma else 1.0
            yield accepted, math.prod(h[:accepted]) * rejected
    else:
        for accepted in range(gamma + 1):
            hit = h[accepted - 1] if accepted else 1.0
            yield accepted, hit * math.prod(1 - x for x in h[accepted:])


def enumerate_law(rule, target, draft, vocabulary, gamma, spoil=lambda law: law):
    """The exact joint law of the first gamma + 1 output tokens, completed by the target, and the mean kept length."""
    law = torch.zeros([vocabulary] * (gamma + 1), dtype=torch.float64)
    mean_accepted = 0.0
    for x in itertools.product(range(vocabulary), repeat=gamma):
        p, q = [target[x[:i]] for i in range(gamma + 1)], [draft[x[:i]] for i in range(gamma)]
        drafted_with = math.prod(law.probability(token) for law, token in zip(q, x, strict=True))
        if not drafted_with:
            continue
        plan = RULES[rule](p, q, x)
        for accepted, chance in outcomes(plan, gamma):
            weight = drafted_with * chance
            mean_accepted += weight * accepted
            after = p[gamma] if accepted == gamma else spoil(residual(p[accepted], q[accepted], plan.weight(accepted)))
            for token, mass in zip(after.tokens, after.mass / after.mass.sum(), strict=True):
                prefix = (*x[:accepted], int(token))
                law[prefix] += weight * mass * continuation(target, prefix, vocabulary, gamma + 1)
    return law, mean_accepted


def continuation(target, prefix, vocabulary, length):
    """The target's joint law of the tokens that complete `prefix` to `length`: shape (vocabulary,) * (length - n)."""
    law = torch.ones([vocabulary] * (length - len(prefix)), dtype=torch.float64)
    for rest in itertools.product(range(vocabulary), repeat=length - len(prefix)):
        for i in range(len(rest)):
            law[rest] *= target[prefix + rest[:i]].probability(rest[i])
    return law


def total_variation(a, b):
    return 0.5 * (a - b).abs().sum().item()


@pytest.mark.parametrize("rule", ["token", "block"])
@given(seed=st.integers(0, 10_000), shape=st.sampled_from([(2, 1), (2, 3), (3, 2)]), sharpness=st.floats(0.1, 5))
@settings(max_examples=15)
def test_output_law_is_the_targets(rule, seed, shape, sharpness):
    vocabulary, gamma = shape
    target, draft = random_tables(vocabulary, gamma, seed, sharpness)
    law, _ = enumerate_law(rule, target, draft, vocabulary, gamma)
    assert total_variation(law, continuation(target, (), vocabulary, gamma + 1)) < 1e-12


@pytest.mark.parametrize("rule", ["token", "block"])
def test_a_biased_residual_is_seen(rule):
    """Negative control: TriForce's shortcut (the law itself after a rejection, no residual) must show."""
    target, draft = random_tables(3, 2, seed=1)

    def uniform(law):
        return Law(law.tokens, np.ones(len(law.tokens)))

    law, _ = enumerate_law(rule, target, draft, 3, 2, spoil=uniform)
    assert total_variation(law, continuation(target, (), 3, 3)) > 0.01


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15)
def test_block_accepts_at_least_as_much_as_token(seed):
    target, draft = random_tables(3, 2, seed)
    means = {rule: enumerate_law(rule, target, draft, 3, 2)[1] for rule in RULES}
    assert means["block"] >= means["token"] - 1e-12


def test_the_papers_example():
    """Sun et al. (2024), section 2: context-independent laws (1/3, 2/3) and (2/3, 1/3), gamma 2: 11/9 against 10/9."""
    prefixes = [p for n in range(3) for p in itertools.product(range(2), repeat=n)]
    target = {p: Law(np.arange(2), np.array([1 / 3, 2 / 3])) for p in prefixes}
    draft = {p: Law(np.arange(2), np.array([2 / 3, 1 / 3])) for p in prefixes}
    assert enumerate_law("token", target, draft, 2, 2)[1] == pytest.approx(10 / 9, abs=1e-12)
    assert enumerate_law("block", target, draft, 2, 2)[1] == pytest.approx(11 / 9, abs=1e-12)


@pytest.mark.parametrize("rule", ["token", "block"])
def test_the_drawn_verdicts_follow_the_enumerated_law(rule):
    """verify() itself, with its random draws: the first output token follows the target (chi-square, 1e-9)."""
    from scipy.stats import chisquare

    target, draft = random_tables(4, 2, seed=5, sharpness=0.7)
    randomness, counts = Randomness(0), np.zeros(4)
    rounds = 20_000
    for _ in range(rounds):
        x = ()
        for _ in range(2):
            x = (*x, draft[x].draw(randomness.uniform())[0])
        accepted, token = verify(
            rule, [target[x[:i]] for i in range(3)], [draft[x[:i]] for i in range(2)], x, randomness
        )
        counts[x[0] if accepted else token] += 1
    assert chisquare(counts, target[()].dense(4) * rounds, sum_check=False).pvalue > 1e-9


@pytest.mark.parametrize("rule", ["token", "block"])
def test_greedy_keeps_the_agreeing_prefix_and_corrects_the_next(rule):
    p = [point(token) for token in (1, 2, 3, 4)]  # the target's choices
    for drafted, verdict in (([1, 2, 0], (2, 3)), ([1, 2, 3], (3, 4)), ([0, 2, 3], (0, 1))):
        assert verify(rule, p, [point(token) for token in drafted], drafted, Randomness(0)) == verdict


def test_nothing_drafted_draws_from_the_target():
    assert verify("token", [point(2)], [], [], Randomness(0)) == (0, 2)


def test_residual_of_equal_laws_is_the_law_itself():
    law, other = Law(np.arange(2), np.array([0.25, 0.75])), Law(np.arange(2), np.array([0.75, 0.25]))
    assert residual(law, law) == law
    assert residual(law, other).mass.tolist() == [0, 0.5]


def test_laws_over_the_whole_vocabulary_are_compared_place_by_place_and_left_as_they_are():
    target, draft = (
        law_of(logits, SamplingParams()) for logits in (torch.tensor([0.0, 1, 2]), torch.tensor([2.0, 1, 0]))
    )
    assert target.tokens is draft.tokens
    before = [law.mass.copy() for law in (target, draft)]
    expected = np.maximum(0.5 * target.mass - draft.dense(3), 0)
    assert residual(target, draft, 0.5).dense(3).tolist() == expected.tolist()
    assert [law.mass.tolist() for law in (target, draft)] == [mass.tolist() for mass in before]


def test_token_verification_does_not_look_behind_a_rejection():
    """The target's laws there are not even made."""

    class Target(list):
        def __getitem__(self, i):
            assert i <= 1, "a law behind the rejected token was asked for"
            return super().__getitem__(i)

    drafted = [1, 0, 3]
    target = Target([point(1), point(2), point(3), point(4)])
    assert verify("token", target, [point(token) for token in drafted], drafted, Randomness(0)) == (1, 2)
