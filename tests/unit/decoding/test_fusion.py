"""Speculative decoding with a compressed cache: the draft's, the target's own copy, or the target's."""

import pytest
import tiny
import torch

from specpress import SamplingParams, generate
from specpress.drafters import Cascade, CompressedTarget, DraftModel
from specpress.experiments.press_survey import example
from specpress.presses import get_press
from specpress.schedules import Constant

GREEDY = SamplingParams(temperature=0)


def knorm(ratio=0.6):
    return get_press("knorm", compression_ratio=ratio)


LOSSLESS = {
    "compressed target": lambda make: CompressedTarget(knorm()),
    "refreshed target": lambda make: CompressedTarget(knorm(), interval=5),
    "compressed draft": lambda make: DraftModel(make(1, seed=5), press=knorm()),
    "cascade of a compressed target": lambda make: Cascade(make(2, seed=6), CompressedTarget(knorm()), gamma=2),
}


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_compressed_draft_leaves_the_tokens_as_they_are(family, kind):
    make = tiny.FAMILIES[family]
    model, tokens = make(), tiny.prompt(40)
    alone = generate(model, tokens, max_new_tokens=24, sampling=GREEDY)
    drafter = LOSSLESS[kind](make)
    assert torch.equal(
        generate(model, tokens, max_new_tokens=24, sampling=GREEDY, drafter=drafter).tokens, alone.tokens
    )


@pytest.mark.parametrize("drafter", [CompressedTarget(knorm()), CompressedTarget(knorm(), interval=3)])
def test_self_speculation_reads_the_prompt_once(drafter):
    model, lengths = tiny.llama(), []
    model.register_forward_pre_hook(lambda module, args, kwargs: lengths.append(args[0].shape[1]), with_kwargs=True)
    generate(model, tiny.prompt(40), max_new_tokens=12, drafter=drafter, schedule=Constant(3))
    assert [n for n in lengths if n > 3 + 1] == [40]


@pytest.mark.parametrize("interval", [None, 1, 3])
def test_a_copy_with_nothing_removed_drafts_the_targets_own_law(interval):
    drafter = CompressedTarget(knorm(0.0), interval=interval)
    result = generate(tiny.llama(), tiny.prompt(9), max_new_tokens=21, drafter=drafter, schedule=Constant(4))
    assert result.metrics()["acceptance_rate"] == 1


@pytest.mark.parametrize(("interval", "most"), [(None, 16 + 24), (4, 0.4 * 64 + 4 + 5)])
def test_a_refreshed_copy_stays_small(interval, most):
    drafter = CompressedTarget(knorm(), interval=interval)
    generate(tiny.llama(), tiny.prompt(40), max_new_tokens=24, drafter=drafter)
    cache = drafter._cached.cache
    assert cache.slots <= most
    assert cache.seen > 40 + 24 - 6  # positions go on


def test_the_drafts_cache_is_compressed_after_the_prompt():
    drafter = DraftModel(tiny.llama(1, seed=5), press=knorm())
    generate(tiny.llama(), tiny.prompt(40), max_new_tokens=3, drafter=drafter, schedule=Constant(1))
    assert 16 < drafter._cached.cache.slots <= 16 + 3  # 40% of the prompt, and the tokens after it


def test_both_caches_compressed_equal_autoregressive_decoding_on_the_targets():
    model, tokens = tiny.llama(), tiny.prompt(40)
    settings = {"max_new_tokens": 24, "sampling": GREEDY, "press": knorm(0.5)}
    alone = generate(model, tokens, **settings)
    for make_drafter in LOSSLESS.values():
        assert torch.equal(generate(model, tokens, drafter=make_drafter(tiny.llama), **settings).tokens, alone.tokens)


def test_an_impossible_interval_is_refused():
    with pytest.raises(ValueError, match="interval must be at least 1 token, got 0"):
        CompressedTarget(knorm(), interval=0)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("name", ["snapkv", "optimized_hybrid", "streaming_llm"])
def test_a_draft_is_refreshed_from_a_cache_smaller_than_its_press_keeps(name, rows):
    """Four slots are left after the prompt, where the draft's press always keeps its window of eight, or its sinks."""
    model, tokens = tiny.llama(), tiny.prompt(40, batch=rows)
    settings = {"max_new_tokens": 12, "sampling": GREEDY, "press": knorm(0.9)}
    drafter = CompressedTarget(example(name), interval=3)
    assert torch.equal(
        generate(model, tokens, drafter=drafter, **settings).tokens, generate(model, tokens, **settings).tokens
    )
