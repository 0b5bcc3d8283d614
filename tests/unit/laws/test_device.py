"""Laws over the whole vocabulary against those on their supports, on CPU tensors; and that they read nothing back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from instruments import NoHostReads

from specpress.laws.device import DeviceLaws, drawn
from specpress.laws.engines import ENGINES, joined, laws_of, laws_there
from specpress.laws.law import Head, Law, Laws, point
from specpress.laws.points import Points
from specpress.laws.sampling import Randomness, SamplingParams

SAMPLINGS = [
    SamplingParams(temperature=0),
    SamplingParams(),
    SamplingParams(temperature=0.85, top_p=0.9),
    SamplingParams(temperature=1.3, top_k=7),
    SamplingParams(temperature=1.3, top_k=40, top_p=0.7),
]


def random_logits(rows, vocabulary, seed, scale=3.0):
    return scale * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("vocabulary", [1, 9, 3000])
@given(
    scale=st.sampled_from([0.0, 0.01, 1.0, 4.0, 30.0]),
    temperature=st.sampled_from([0.3, 0.85, 2.0]),
    top_k=st.sampled_from([0, 1, 5, 400]),
    top_p=st.sampled_from([1.0, 1 - 1e-12, 0.99999, 0.9, 0.61803, 0.0123]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 999),
)
@settings(max_examples=60)
def test_laws_and_draws_are_the_hosts(vocabulary, scale, temperature, top_k, top_p, dtype, seed):
    """Masses to 1e-12 of themselves, and the same tokens from the same uniforms: ties and all."""
    logits, sampling = random_logits(3, vocabulary, seed, scale).to(dtype), SamplingParams(temperature, top_k, top_p)
    ours, theirs = DeviceLaws(logits, sampling), Laws(logits, sampling)
    for mass, law in zip(ours.mass.numpy(), theirs, strict=True):
        np.testing.assert_allclose(mass, law.dense(vocabulary), rtol=1e-12, atol=0)
    one, other = Randomness(seed), Randomness(seed)
    for _ in range(20):
        drawn, expected = ours.draw(one), theirs.draw(other)
        assert torch.equal(drawn.tokens, expected.tokens)
        assert drawn.mass.tolist() == pytest.approx(list(expected.mass), rel=1e-12)


def test_a_head_over_part_of_the_vocabulary_draws_its_tokens():
    tokens = torch.tensor([1, 4, 5, 11])
    head, logits = Head(tokens.numpy(), tokens), random_logits(2, 4, 0)
    ours, theirs = DeviceLaws(logits, SamplingParams(), head), Laws(logits, SamplingParams(), head)
    assert ours.mass.shape == (2, 12)
    np.testing.assert_allclose(ours.mass[1].numpy(), theirs[1].dense(12), rtol=1e-12)
    assert torch.equal(ours.take(Randomness(3)), theirs.take(Randomness(3)))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_making_and_drawing_read_nothing_on_the_host(sampling):
    logits, randomness = random_logits(4, 500, 0), Randomness(1)
    randomness.on(logits.device, 1)  # the copy of the next uniforms
    with NoHostReads():
        laws_there(logits, sampling).draw(randomness)


def test_the_instrument_sees_a_read():
    with pytest.raises(AssertionError, match="read on the host"), NoHostReads():
        int(torch.ones(2).argmax())


@pytest.mark.parametrize("sampling", SAMPLINGS[1:])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_refused_where_a_token_is_read(sampling, wrong):
    laws = DeviceLaws(torch.tensor([[1.0, 2.0, 0.0], [1.0, wrong, 2.0]]), sampling)
    assert laws.sound.tolist() == [True, False]
    assert 0 <= int(laws.draw(Randomness(0)).tokens[1]) < 3  # a step in between can be fed
    with pytest.raises(ValueError, match="logits are infinite or no numbers"):
        laws.take(Randomness(0))
    with pytest.raises(ValueError, match="logits are infinite or no numbers"):
        laws[1]


def test_a_uniform_next_to_one_draws_the_last_token_that_can_come():
    mass = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]], dtype=torch.float64)
    uniforms = [0.0, 0.2499, 0.25, 0.999, 1 - 2**-53]
    assert [int(drawn(mass, torch.tensor([u], dtype=torch.float64))) for u in uniforms] == [1, 1, 3, 3, 3]


def test_laws_of_the_host_on_a_device():
    laws = [point(3), Law(np.array([4, 1]), np.array([0.25, 0.75]))]
    assert DeviceLaws.gathered(laws, 6, torch.device("cpu")).mass.tolist() == [
        [0, 0, 0, 1, 0, 0],
        [0, 0.75, 0, 0, 0.25, 0],
    ]
    ours = DeviceLaws(random_logits(2, 4, 0), SamplingParams())
    assert DeviceLaws.gathered(ours, 6, torch.device("cpu")).mass.shape == (2, 6)


def test_laws_of_another_device_come_to_the_one_asked_for():
    """A draft on a GPU of its own."""
    found = DeviceLaws.gathered(DeviceLaws(random_logits(2, 4, 0), SamplingParams()), 6, torch.device("meta"))
    assert {x.device.type for x in (found.mass, found.sound)} == {"meta"}


def test_a_law_can_be_read_back_and_runs_of_them_joined():
    logits = random_logits(3, 12, 0)
    ours, theirs = DeviceLaws(logits, SamplingParams(top_p=0.8)), Laws(logits, SamplingParams(top_p=0.8))
    assert ours[-1].tokens.tolist() == theirs[-1].tokens.tolist()
    assert isinstance(ours[:2], DeviceLaws)
    together = joined([ours[:1], ours[1:]])
    assert torch.equal(together.mass, ours.mass)
    assert [law.tokens.tolist() for law in joined([ours[:1], theirs])] == [
        law.tokens.tolist() for law in (ours[0], *theirs)
    ]


def test_the_first_law_that_is_read_brings_all_of_them():
    logits = random_logits(3, 12, 0)
    logits[1, 4] = float("nan")
    ours, theirs = DeviceLaws(logits, SamplingParams(top_p=0.8)), Laws(logits, SamplingParams(top_p=0.8))
    first, ours.mass = ours[0], ours.mass[:0]
    for found, expected in ((first, theirs[0]), (ours[-1], theirs[-1]), (ours[2:][0], theirs[2])):
        assert found.tokens.tolist() == expected.tokens.tolist()
        np.testing.assert_allclose(found.mass, expected.mass, rtol=1e-12)
    with pytest.raises(ValueError, match="logits are infinite or no numbers"):
        ours[1]


def test_a_gpu_gets_its_laws_where_its_logits_are():
    assert dict(ENGINES) == {"cuda": laws_there}
    assert isinstance(laws_there(torch.zeros(1, 3), SamplingParams()), DeviceLaws)
    assert isinstance(laws_there(torch.zeros(1, 3), SamplingParams(temperature=0)), Points)
    assert isinstance(laws_of(torch.zeros(1, 3), SamplingParams()), Laws)


def test_uniforms_are_one_sequence_whoever_asks():
    plain, mixed = Randomness(5).uniforms(1000), Randomness(5)
    device = torch.device("cpu")
    taken = []
    for turn in range(60):
        taken += [mixed.uniform(), *mixed.on(device, 1 + turn % 9).tolist(), *mixed.uniforms(2)]
    assert taken == plain[: len(taken)]
    assert mixed.on(device, 400).tolist() == plain[len(taken) : len(taken) + 400]
