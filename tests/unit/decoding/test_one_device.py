"""A model on another device than the text: on the meta device, which has no values, no kernel may mix the two.

What the host has to read cannot be read there; each test goes as far as the first such read, or stands in for it.
"""

import numpy as np
import pytest
import tiny
import torch
from instruments import OneDevice

from specpress.decoding.generate import prepare
from specpress.decoding.generation import Generation
from specpress.decoding.trace import Trace
from specpress.drafters import FeatureHead, PromptLookup
from specpress.drafters.autoregressive import draft
from specpress.engine import cached_model
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.graphs import StaticSteps
from specpress.engine.ragged_model import RaggedModel
from specpress.laws import engines
from specpress.laws.law import Head, point
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.schedules.base import never
from specpress.speculation import rounds
from specpress.speculation.drafter import Drafter, Proposal
from specpress.speculation.prefill import prefill

SAMPLINGS = [SamplingParams(temperature=0), SamplingParams(temperature=0.85, top_p=0.9), SamplingParams(top_k=5)]


@pytest.fixture(autouse=True)
def there(monkeypatch):
    monkeypatch.setitem(engines.ENGINES, "meta", engines.laws_there)
    monkeypatch.setattr(torch, "equal", lambda a, b: True)  # whether weights were replaced is a read
    monkeypatch.setattr(cached_model, "head_tokens", lambda model: model.head)  # as are a head's tokens
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # which does not know the meta device


def model(family="llama", *, layers=2, steps=False, part=None):
    made = tiny.FAMILIES[family](layers)
    if part:
        made = tiny.with_subset_head(made, part)
    made = made.to("meta")
    made.head = Head(np.arange(part), torch.arange(part, device="meta")) if part else None
    made.static_steps = StaticSteps(lambda step: step, ahead=True) if steps else None
    return made


def test_the_instrument_sees_two_devices():
    with OneDevice(), pytest.raises(AssertionError, match=r"aten\.add.* mixes cpu and meta"):
        torch.ones(2) + torch.ones(2, device="meta")


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_prompts_steps_and_rollbacks(family, steps):
    made = model(family, steps=steps)
    with decode_attention(made), OneDevice():
        cached = CachedModel(made, 300)
        assert cached.feed(tiny.prompt(250)).device.type == "meta"
        for queries in (1, 5, 3, 1):
            assert cached.feed(tiny.prompt(queries), keep=queries).shape == (1, queries, tiny.VOCABULARY)
            cached.rollback_to(cached.length - queries + 1)


def test_padded_rows():
    made = model()
    with decode_attention(made), OneDevice():
        cached = CachedModel(made, 40, padding=torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]]))
        cached.feed(tiny.prompt(4, batch=2))
        cached.feed(tiny.prompt(1, batch=2))


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("part", [None, 20])
@pytest.mark.parametrize("verification", ["token", "block"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_round_up_to_its_one_read(sampling, verification, part, steps):
    target, small, context = model(steps=steps), model(layers=1, part=part, steps=steps), tiny.prompt(20)[0]
    with decode_attention(target, small), OneDevice():
        verifier, drafting, randomness = CachedModel(target, 64), CachedModel(small, 64), Randomness(0)
        verifier.feed(context[None, :-1])
        proposal = draft(drafting, context, 4, never, sampling, randomness)
        assert {x.device.type for x in (proposal.tokens, proposal.laws.sound)} == {"meta"}
        with pytest.raises(NotImplementedError, match="meta"):
            rounds.speculate(verifier, Drafter(), context, proposal, sampling, randomness, verification)
    assert verifier.length == 24  # the tokens have been fed: what was missing is the outcome


def test_a_looked_up_proposal_up_to_its_one_read():
    target, context = model(), tiny.prompt(20)[0]
    with decode_attention(target), OneDevice():
        verifier = CachedModel(target, 64)
        verifier.feed(context[None, :-1])
        proposal = Proposal(torch.tensor([3, 4]), [point(3), point(4)])
        with pytest.raises(NotImplementedError, match="meta"):
            rounds.speculate(verifier, Drafter(), context, proposal, SAMPLINGS[1], Randomness(0), "token")


def test_a_feature_head_on_a_device_of_its_own():
    target, context = tiny.llama(), tiny.prompt(20)[0]
    head = tiny.feature_head(target, (1,)).to("meta")
    target.head = head.head = None
    drafter = FeatureHead(head)
    drafter.start(target, SAMPLINGS[1], Randomness(0), 64)
    with decode_attention(target, head), OneDevice():
        prefill(CachedModel(target, 64), context[None, :-1], drafter=drafter)
        proposal = drafter.propose(context, 3, never)
    assert {x.device.type for x in (proposal.tokens, proposal.laws.sound)} == {"meta"}


def test_rows_that_go_their_own_ways():
    made = model()
    with decode_attention(made), OneDevice():
        cached = CachedModel(made, 40)
        cached.feed(tiny.prompt(9, batch=2))
        ragged = RaggedModel(cached, [0, 4])
        ragged.feed(tiny.prompt(3, batch=2), [3, 1])
        ragged.rollback_to([10, 6])
        assert ragged.feed(tiny.prompt(1, batch=2), [1, 0]).device.type == "meta"


@pytest.mark.parametrize("batch", [1, 2])
def test_rounds_are_timed_where_the_model_is(batch):
    """Not where the prompt is: a clock on the host does not wait for a GPU."""
    decoding = prepare(model(), tiny.prompt(6, batch=batch), max_new_tokens=3, drafter=PromptLookup())
    assert decoding.device.type == "meta"


def test_a_text_is_handed_out_where_its_prompt_was():
    generation = Generation(tiny.prompt(3), Trace())
    assert generation.on(torch.device("meta")).tokens.device.type == "meta"
    assert generation.on(torch.device("cpu")).tokens is generation.tokens
