"""Laws on their supports: the same as `probabilities` over the whole vocabulary, and drawn from as they say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specpress.laws.law import Law, Laws, law_of
from specpress.laws.sampling import Randomness, SamplingParams, probabilities


def random_logits(shape, scale, levels, seed):
    """Normal logits; `levels` rounds them to that many values a unit, so that many tie (0: not at all)."""
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
    return (logits * levels).round() / levels if levels else logits


@pytest.mark.parametrize("vocabulary", [1, 2, 9, 3000])
@given(
    scale=st.sampled_from([0.0, 0.01, 1.0, 4.0, 30.0]),  # from flat to all mass on a few
    levels=st.sampled_from([0, 1, 8]),
    temperature=st.sampled_from([0.0, 0.3, 0.85, 2.0]),
    top_k=st.sampled_from([0, 1, 5, 400]),
    top_p=st.sampled_from([1.0, 1 - 1e-12, 0.99999, 0.9, 0.61803, 0.0123]),
    seed=st.integers(0, 999),
)
@settings(max_examples=60)
def test_equal_to_the_laws_over_the_vocabulary(vocabulary, scale, levels, temperature, top_k, top_p, seed):
    logits = random_logits((3, vocabulary), scale, levels, seed)
    sampling = SamplingParams(temperature, top_k, top_p)
    for law, expected in zip(Laws(logits, sampling), probabilities(logits, sampling), strict=True):
        dense = law.dense(vocabulary)
        np.testing.assert_array_equal(dense > 1e-30, expected.numpy() > 1e-30)
        np.testing.assert_allclose(dense, expected.numpy(), rtol=1e-6, atol=1e-30)
        assert law.mass.sum() == pytest.approx(1, abs=1e-12)


def test_a_nucleus_of_unlikely_tokens_is_found():
    """No token is as likely as the first floor; a tail of a few more is needed to reach top_p."""
    logits = torch.zeros(2, 60_000)
    logits[1, :3] = 9
    sampling = SamplingParams(top_p=0.5)
    for law, expected in zip(Laws(logits, sampling), probabilities(logits, sampling), strict=True):
        np.testing.assert_allclose(law.dense(60_000), expected.numpy(), rtol=1e-6)


def test_the_tokens_of_a_smaller_head_are_those_of_the_vocabulary():
    head = np.array([7, 2, 5])
    law = law_of(torch.tensor([1.0, 3.0, 2.0]).bfloat16(), SamplingParams(top_k=2), head)
    assert law.tokens.tolist() == [2, 5]
    assert law_of(torch.tensor([1.0, 3.0, 2.0]), SamplingParams(temperature=0), head).tokens.tolist() == [2]


@given(uniform=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 99))
def test_draw_never_takes_a_token_of_zero_mass(uniform, seed):
    generator = np.random.default_rng(seed)
    mass = generator.random(20) * (generator.random(20) < 0.3)
    mass[7] += 0.1
    law = Law(generator.permutation(100)[:20], mass)
    token, mass = law.draw(uniform)
    assert law.probability(token) == mass > 0


def test_draw_inverts_the_cumulative_law():
    law = Law(np.array([9, 4, 6, 2]), np.array([0.0, 0.25, 0.0, 0.75]))
    assert [law.draw(uniform)[0] for uniform in (0.0, 0.2499, 0.25, 0.999)] == [4, 4, 2, 2]
    assert law.draw(1 - 2**-53) == (2, 0.75)


def test_the_mass_of_tokens_in_and_outside_the_support():
    law = Law(np.array([9, 4]), np.array([0.25, 0.75]))
    assert (law.probability(4), law.probability(5)) == (0.75, 0.0)
    assert law.at(np.array([4, 0, 9, 200])).tolist() == [0.75, 0, 0.25, 0]
    assert law.dense(11).nonzero()[0].tolist() == [4, 9]


def test_each_law_gets_a_uniform_of_its_own():
    laws, randomness = Laws(torch.zeros(2, 1000), SamplingParams()), Randomness(0)
    tokens, mass = laws.draw(randomness)
    assert tokens.tolist() == [int(1000 * uniform) for uniform in Randomness(0).uniforms(2)]
    assert mass == pytest.approx([1e-3, 1e-3])
    assert laws.take(randomness).tolist() == [int(1000 * uniform) for uniform in Randomness(0).uniforms(4)[2:]]


def test_laws_are_a_sequence():
    laws = Laws(torch.eye(4), SamplingParams(temperature=0))
    assert (len(laws), laws[2].draw(0.5)[0], laws[-1].draw(0.5)[0]) == (4, 2, 3)
    assert [law.draw(0.5)[0] for law in laws[1:3]] == [1, 2]
    with pytest.raises(IndexError):
        laws[4]


@pytest.mark.parametrize("sampling", [SamplingParams(), SamplingParams(top_p=0.9), SamplingParams(top_k=2)])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_leave_no_law(sampling, wrong):
    with pytest.raises(ValueError, match="logits are infinite or no numbers"):
        law_of(torch.tensor([1.0, wrong, 2.0]), sampling)


@pytest.mark.parametrize("temperature", [1e-30, 1e-6, 1.0])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_tokens_that_cannot_come_and_small_temperatures_leave_a_law(temperature, top_p):
    law = law_of(torch.tensor([-torch.inf, 40.0, -3e4, -torch.inf]), SamplingParams(temperature, top_p=top_p))
    assert law.dense(4).tolist() == [0, 1, 0, 0]


def test_a_nucleus_that_rounding_leaves_short_of_top_p_holds_every_token_once():
    logits = next(x for x in map(seeded, range(100)) if float(x.softmax(-1).double().sum()) < 1 - 1e-9)
    law = law_of(logits, SamplingParams(top_p=1 - 1e-12))
    assert sorted(law.tokens.tolist()) == list(range(500))


def seeded(seed):
    return random_logits(500, 2.0, 0, seed)
