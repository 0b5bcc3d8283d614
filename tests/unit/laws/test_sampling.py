import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from specpress.laws.sampling import Randomness, SamplingParams, probabilities


def reference(logits, sampling):
    """transformers' own processors, in its order."""
    scores = TemperatureLogitsWarper(sampling.temperature)(None, logits.float())
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(None, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(None, scores)
    return torch.softmax(scores, -1)


@pytest.mark.parametrize("vocabulary", [10, 1000])  # under and over the number of nucleus candidates
@pytest.mark.parametrize("scale", [0.1, 4.0])  # flat rows need the whole sort, peaked ones do not
@given(
    temperature=st.floats(0.2, 3),
    top_k=st.sampled_from([0, 1, 5, 400]),
    top_p=st.sampled_from([1.0, 0.95, 0.6, 0.01]),
    seed=st.integers(0, 999),
)
@settings(max_examples=25)
def test_probabilities_equal_transformers_processors(vocabulary, scale, temperature, top_k, top_p, seed):
    logits = torch.randn(3, vocabulary, generator=torch.Generator().manual_seed(seed)) * scale
    sampling = SamplingParams(temperature, top_k, top_p)
    ours, theirs = probabilities(logits, sampling), reference(logits, sampling)
    torch.testing.assert_close(ours.sum(-1), torch.ones(3))
    # Where the nucleus ends, rounding of a long cumulative sum may include one token more or less: the least likely.
    edge = torch.where(ours > 0, ours, 1.0).amin(-1)
    assert ((ours - theirs).abs().sum(-1) / 2 <= edge * 1.01 * (top_p < 1) + 1e-5).all()
    assert ((ours > 0).sum(-1) - (theirs > 0).sum(-1)).abs().max() <= (top_p < 1)


def test_greedy_is_one_hot_at_the_most_likely_token():
    logits = torch.randn(2, 5, 7)
    law = probabilities(logits, SamplingParams(temperature=0))
    assert torch.equal(law.argmax(-1), logits.argmax(-1))
    assert torch.equal(law.sum(-1), torch.ones(2, 5))
    assert law.dtype == torch.float32


def test_low_precision_logits_become_float32_laws():
    law = probabilities(torch.randn(4, 100).bfloat16(), SamplingParams(top_p=0.9))
    assert law.dtype == torch.float32
    torch.testing.assert_close(law.sum(-1), torch.ones(4))


def test_a_seed_gives_the_same_uniforms():
    assert Randomness(3).uniforms(5) == Randomness(3).uniforms(5) != Randomness(4).uniforms(5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"temperature": -0.1}, "temperature must be"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"temperature": 1e-40}, "temperature must be 0 \\(greedy\\) or a positive number from 1e-30"),
        ({"top_p": 0.0}, "top_p must lie in"),
        ({"top_p": 1.1}, "top_p must lie in"),
        ({"top_k": -1}, "top_k must be"),
    ],
)
def test_bad_settings_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        SamplingParams(**arguments)
