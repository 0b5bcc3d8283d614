"""Speculative decoding with a compressed cache: the draft's, the target's own copy, or the target's."""

import pytest
import tiny
import torch

from specpress import SamplingParams, generate
from specpress.drafters import Cascade, CompressedTarget, DraftModel
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.compression import compress
from specpress.experiments.press_survey import example
from specpress.laws.sampling import Randomness
from specpress.presses import get_press
from specpress.schedules import Constant
from specpress.schedules.base import never
from specpress.speculation.prefill import prefill, read_rows

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


@pytest.mark.parametrize("press", [knorm(0.5), knorm(0.9), example("snapkv", 0.5)], ids=["half", "tenth", "snapkv"])
def test_a_copy_compressed_with_tokens_that_are_taken_back_is_made_anew(press):
    """As in a cascade, whose intermediate model has kept what the target then refuses."""
    model, drafter, prompt = tiny.llama(), CompressedTarget(press, interval=4), tiny.prompt(61)[0]
    cached = CachedModel(model, 99)
    drafter.start(model, GREEDY, Randomness(0), 99)
    with decode_attention(model):
        prefill(cached, prompt[None, :40], drafter=drafter)
        cached.feed(prompt[None, 40:60])
        drafter.propose(prompt, 3, never)
        cached.rollback_to(42)
        drafter.rollback(42)
        expected = cached.cache.clone()
        compress(expected, press, cached.observations)
    assert drafter._cached.cache.seen == 42
    for found, layer in zip(drafter._cached.cache.layers, expected.layers, strict=True):
        assert torch.equal(found.keys, layer.keys)
        assert torch.equal(found.values, layer.values)


@pytest.mark.parametrize("ratio", [0.5, 0.9])
def test_so_is_that_of_a_row(ratio):
    """The other row keeps what it has."""
    model, texts = tiny.llama(), tiny.prompt(61, batch=2)
    drafter, press = CompressedTarget(knorm(ratio), interval=4).rows(2), knorm(ratio)
    drafter.start(model, GREEDY, Randomness(0), [99, 99])
    with decode_attention(model):
        target, _ = read_rows(CachedModel(model, 99), list(texts[:, :40]), drafter=drafter)
        target.feed(texts[:, 40:60], [20, 20])
        drafter.propose(list(texts), [3, 3], never)
        stays = drafter._ragged.cache.row(1)
        target.rollback_to([42, 63])
        drafter.rollback([42, 63])
        expected = [target.compressed(0, press), stays]
    for r in range(2):
        found = drafter._ragged.cache.row(r)
        assert found.seen == expected[r].seen
        for mine, layer in zip(found.layers, expected[r].layers, strict=True):
            assert torch.equal(mine.keys, layer.keys)
            assert torch.equal(mine.values, layer.values)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("ratio", [0.5, 0.9])
def test_a_cascade_takes_back_more_than_came_after_a_compression(ratio, rows):
    """The intermediate model, which looks at its last token alone, keeps all that its own copy drafts."""
    target, middle, tokens = tiny.llama(), tiny.llama(1, seed=6), tiny.prompt(40, batch=rows)
    for layer in middle.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
    settings = {"max_new_tokens": 30, "sampling": GREEDY}
    drafter = Cascade(middle, CompressedTarget(knorm(ratio), interval=4), gamma=4, rounds=4)
    found = generate(target, tokens, drafter=drafter, schedule=Constant(16), **settings)
    assert torch.equal(found.tokens, generate(target, tokens, **settings).tokens)
    first = found.trace.iterations[0]
    assert first.proposed == 16 * rows
    assert first.accepted < 4 * rows


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
