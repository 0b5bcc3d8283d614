"""The loop with laws over the vocabulary, as on a GPU, against the loop with laws on the host: the same tokens."""

import pytest
import tiny
import torch
from instruments import NoHostReads
from tree_drafters import Branching

from specpress import SamplingParams, generate
from specpress.drafters import Cascade, CompressedTarget, DraftModel, PromptLookup
from specpress.drafters.autoregressive import draft
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.laws import engines
from specpress.laws.sampling import Randomness
from specpress.presses import get_press
from specpress.schedules import AIMD, Confidence, Constant
from specpress.schedules.base import never

SAMPLINGS = {
    "greedy": SamplingParams(temperature=0, seed=1),
    "plain": SamplingParams(seed=1),
    "nucleus": SamplingParams(temperature=0.85, top_p=0.9, seed=2),
    "top k": SamplingParams(temperature=1.2, top_k=5, seed=3),
}
SMALL = tiny.llama(1, seed=5)
PART = tiny.with_subset_head(tiny.llama(1, seed=5), 30)
METHODS = {
    "autoregressive": lambda: {},
    "draft model": lambda: {"drafter": DraftModel(SMALL), "schedule": Constant(4)},
    "partial head": lambda: {"drafter": DraftModel(PART), "schedule": AIMD()},
    "block": lambda: {"drafter": DraftModel(SMALL), "schedule": Constant(3), "verification": "block"},
    "tree": lambda: {"drafter": Branching(SMALL), "schedule": Constant(5), "verification": "traversal"},
    "tree, recursive": lambda: {"drafter": Branching(SMALL), "schedule": Constant(4), "verification": "recursive"},
    "confidence": lambda: {"drafter": DraftModel(SMALL), "schedule": Confidence(0.3)},
    "lookup": lambda: {"drafter": PromptLookup(2), "schedule": Constant(4)},
    "compressed": lambda: {"drafter": CompressedTarget(get_press("streaming_llm", compression_ratio=0.5))},
    "cascade": lambda: {"drafter": Cascade(PART, DraftModel(SMALL), gamma=2, rounds=2), "schedule": Constant(6)},
    "cascade over lookup": lambda: {"drafter": Cascade(SMALL, PromptLookup(2)), "schedule": Confidence(0.2)},
}


@pytest.fixture
def on_the_device(monkeypatch):
    """From now on laws on CPU tensors are those of a GPU."""
    return lambda: monkeypatch.setitem(engines.ENGINES, "cpu", engines.laws_there)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_tokens_and_rounds(method, sampling, on_the_device):
    target, prompt = tiny.gpt_neox(seed=2), tiny.prompt(30)
    if method != "autoregressive":
        target = tiny.llama()
    settings = {"max_new_tokens": 40, "sampling": SAMPLINGS[sampling], "eos_token_id": 1}
    expected = generate(target, prompt, **METHODS[method](), **settings)
    on_the_device()
    found = generate(target, prompt, **METHODS[method](), **settings)
    assert found.tokens.tolist() == expected.tokens.tolist()
    for column in ("proposed", "accepted", "committed"):
        assert found.trace.columns()[column] == expected.trace.columns()[column]


def test_a_batch_draws_as_many_rows(on_the_device):
    settings = {"max_new_tokens": 12, "sampling": SAMPLINGS["nucleus"]}
    expected = generate(tiny.llama(), tiny.prompt(10, batch=3), **settings).tokens
    on_the_device()
    assert torch.equal(generate(tiny.llama(), tiny.prompt(10, batch=3), **settings).tokens, expected)


def test_a_model_with_a_head_over_part_of_the_vocabulary_generates_its_tokens():
    model = tiny.with_subset_head(tiny.llama(), 20)
    tokens = torch.arange(0, 40, 2)
    even, model.head_token_ids = generate(model, tiny.prompt(6), max_new_tokens=1).tokens, tokens
    assert generate(model, tiny.prompt(6), max_new_tokens=1).tokens.tolist() == (2 * even).tolist()
    batch = generate(model, tiny.prompt(6, batch=2), max_new_tokens=1, drafter=DraftModel(SMALL)).tokens
    assert set(batch.flatten().tolist()) <= set(tokens.tolist())


def test_drafted_steps_follow_each_other_without_a_read(on_the_device):
    on_the_device()
    sampling, randomness, context = SAMPLINGS["nucleus"], Randomness(0), tiny.prompt(20)[0]
    with decode_attention(SMALL):
        cached = CachedModel(SMALL, 64)
        cached.feed(context[None, :-1])
        randomness.on(context.device, 1)  # the copy of the next uniforms
        with NoHostReads():
            proposal = draft(cached, context, 5, never, sampling, randomness)
    assert len(proposal.tokens) == len(proposal.laws) == 5
