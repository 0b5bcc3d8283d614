"""Laws and verification on a GPU against those on the host, and whole texts against the CPU's: nothing is lost."""

import copy

import numpy as np
import pytest
import tiny
import torch
from tree_drafters import BINARY, Branching

from specpress import SamplingParams, generate, perplexity
from specpress.decoding.uncached import generate_uncached
from specpress.drafters import Cascade, CompressedTarget, DraftModel, PromptLookup
from specpress.engine.graphs import use_eager, use_graphs
from specpress.engine.tree import Tree
from specpress.laws.engines import laws_of
from specpress.laws.law import Laws
from specpress.laws.sampling import Randomness
from specpress.presses import get_press
from specpress.schedules import AIMD, Confidence, Constant
from specpress.speculation.drafter import Proposal
from specpress.speculation.rounds import judge
from specpress.speculation.verification import OF_TREES, verify

pytestmark = pytest.mark.gpu

SAMPLINGS = {
    "greedy": SamplingParams(temperature=0, seed=1),
    "plain": SamplingParams(seed=1),
    "nucleus": SamplingParams(temperature=0.85, top_p=0.9, seed=2),
    "top k": SamplingParams(temperature=1.2, top_k=5, seed=3),
}
HALF = {"compression_ratio": 0.5}
METHODS = {
    "draft model": lambda small: {"drafter": DraftModel(small), "schedule": Constant(4)},
    "dynamic gamma": lambda small: {"drafter": DraftModel(small), "schedule": AIMD()},
    "block": lambda small: {"drafter": DraftModel(small), "verification": "block"},
    "tree": lambda small: {"drafter": Branching(small), "verification": "traversal", "schedule": Constant(5)},
    "confidence": lambda small: {"drafter": DraftModel(small), "schedule": Confidence(0.3)},
    "lookup": lambda small: {"drafter": PromptLookup(2)},
    "compressed": lambda small: {"drafter": CompressedTarget(get_press("streaming_llm", **HALF), interval=16)},
    "cascade": lambda small: {"drafter": Cascade(small, PromptLookup(2))},
    # No norms: the first layer's keys of equal tokens have one norm, of which rounding chooses.
    "press": lambda small: {"press": get_press("snapkv", window_size=8, **HALF)},
    "budget": lambda small: {"press": get_press("tova"), "cache_budget": 40, "compression_interval": 8},
}


@pytest.mark.parametrize("method", ["token", "block"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_laws_draws_and_verdicts_are_the_hosts(sampling, method, gpu):
    """The same logits, of a vocabulary of 50,304 tokens, in float16 on the GPU on both sides."""
    sampling, generator = SAMPLINGS[sampling], torch.Generator().manual_seed(0)
    for seed in range(20):
        target = 4 * torch.randn(5, 50304, generator=generator)
        near = (target[:4] + torch.randn(4, 50304, generator=generator)).to(gpu, torch.float16)
        target = target.to(gpu, torch.float16)
        ours, theirs = laws_of(target, sampling), Laws(target, sampling)
        np.testing.assert_allclose(ours[0].dense(50304), theirs[0].dense(50304), rtol=1e-10, atol=1e-15)
        one, other, drafts = Randomness(seed), Randomness(seed), laws_of(near, sampling)
        drafted, there = Laws(near, sampling).take(one), drafts.draw(other).tokens
        assert torch.equal(there.cpu(), drafted)
        expected = verify(method, theirs, Laws(near, sampling), drafted.tolist(), one)
        found = judge(ours, Proposal(there, drafts), other, method)
        assert (found.kept, found.tokens[-1]) == (expected.kept, expected.token)


@pytest.mark.parametrize("method", OF_TREES)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_verdicts_on_trees_are_the_hosts(sampling, method, gpu):
    sampling, generator, tree = SAMPLINGS[sampling], torch.Generator().manual_seed(0), Tree(BINARY)
    for seed in range(20):
        target = 4 * torch.randn(6, 50304, generator=generator)
        near = target[[parent + 1 for parent in tree.parents]] + torch.randn(5, 50304, generator=generator)
        target, near = target.to(gpu, torch.float16), near.to(gpu, torch.float16)
        one, other, drafts = Randomness(seed), Randomness(seed), laws_of(near, sampling)
        drafted, there = Laws(near, sampling).take(one), drafts.draw(other).tokens
        assert torch.equal(there.cpu(), drafted)
        expected = verify(method, Laws(target, sampling), Laws(near, sampling), drafted.tolist(), one, tree)
        found = judge(laws_of(target, sampling), Proposal(there, drafts, BINARY), other, method)
        assert (found.kept, found.tokens[-1]) == (expected.kept, expected.token)


@pytest.mark.parametrize("sampling", ["greedy", "nucleus"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("graphs", [False, True])
def test_texts_are_the_cpus(method, sampling, graphs, gpu):
    """float32, whose rounding differs by 1e-6: no uniform of these seeds falls that close to where two tokens meet."""
    here = tiny.llama(max_position_embeddings=512), tiny.llama(1, seed=5, max_position_embeddings=512)
    settings = {"max_new_tokens": 40, "sampling": SAMPLINGS[sampling]}
    expected = generate(here[0], tiny.prompt(60), **METHODS[method](here[1]), **settings).tokens
    there = [copy.deepcopy(model).to(gpu) for model in here]
    for model in there:
        use_graphs(model) if graphs else use_eager(model)
    assert torch.equal(generate(there[0], tiny.prompt(60), **METHODS[method](there[1]), **settings).tokens, expected)


@pytest.mark.parametrize("drafting", ["model", "lookup"])
def test_greedy_speculation_loses_nothing_in_half_precision(drafting, gpu):
    """Until two tokens are closer than rounding, which a sharpened tiny model does not come to in 60 tokens."""
    target, small = tiny.llama().half().to(gpu), tiny.llama(1, seed=5).half().to(gpu)
    options = {"max_new_tokens": 60, "sampling": SamplingParams(temperature=0)}
    expected = generate(target, tiny.prompt(40), **options).tokens
    drafter = DraftModel(small) if drafting == "model" else PromptLookup()
    found = generate(target, tiny.prompt(40).to(gpu), drafter=drafter, **options).tokens
    assert found.device == gpu  # where its prompt was
    assert torch.equal(found.cpu(), expected)


def test_batches_padding_the_uncached_protocol_and_perplexity(gpu):
    here = [tiny.gpt_neox(), tiny.gpt_neox(1, seed=5)]
    there = [copy.deepcopy(model).to(gpu) for model in here]
    rows = tiny.prompt(12, batch=3)
    mask = torch.ones_like(rows)
    mask[1, :5] = 0
    for run in (
        lambda models: generate(models[0], rows, max_new_tokens=9, sampling=SAMPLINGS["nucleus"]).tokens,
        lambda models: generate(models[0], rows, max_new_tokens=9, attention_mask=mask).tokens,
        lambda models: (
            generate(models[0], rows, max_new_tokens=9, attention_mask=mask, drafter=DraftModel(models[1])).tokens
        ),
        lambda models: (
            generate_uncached(
                models[0], rows[:1], max_new_tokens=9, drafter_model=models[1], normalise_prefix=True
            ).tokens
        ),
    ):
        assert torch.equal(run(there), run(here))
    for options in ({}, {"press": get_press("knorm", **HALF)}, {"press": get_press("knorm"), "cache_budget": 20}):
        # no token twice: its keys in the first layer would have one norm, and rounding choose between them
        distinct = tiny.distinct(46, tiny.VOCABULARY)
        figures = [perplexity(models[0], distinct, context=32, **options).ppl for models in (here, there)]
        assert figures[1] == pytest.approx(figures[0], rel=1e-4)
