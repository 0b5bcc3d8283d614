"""The cache and the attention against transformers' own, on real models of every family."""

from types import SimpleNamespace

import pytest
import tiny
import torch
from instruments import Kernels
from transformers import DynamicCache

from specpress.engine import attention, kernels
from specpress.engine.attention import ATTENTION, decode_attention, slot_mask
from specpress.engine.cached_model import CachedModel

CLOSE = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture(params=kernels.KERNELS)
def kernel(request, monkeypatch):
    """Every way to compute the attention of a decoding step, however few the slots."""
    monkeypatch.setattr(kernels, "_BLOCK", 0)
    monkeypatch.setenv(kernels.VARIABLE, request.param)


def plain_logits(model, tokens, attention_mask=None, position_ids=None):
    """Every position's logits, eager attention, no cache."""
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        return model(tokens, attention_mask=attention_mask, position_ids=position_ids, use_cache=False).logits


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("family", tiny.EVERY)
def test_prefill_decode_verify_and_rollback_equal_plain_attention(family):
    model = tiny.EVERY[family]()
    tokens = tiny.prompt(40)
    expected = plain_logits(model, tokens)
    with decode_attention(model):
        cached = CachedModel(model, capacity=0)
        torch.testing.assert_close(cached.feed(tokens[:, :20], keep=20), expected[:, :20], **CLOSE)  # prefill
        torch.testing.assert_close(cached.feed(tokens[:, 20:21]), expected[:, 20:21], **CLOSE)  # one token
        torch.testing.assert_close(cached.feed(tokens[:, 21:26], keep=5), expected[:, 21:26], **CLOSE)  # five at once
        cached.feed(tiny.prompt(7, seed=9), keep=7)  # rejected later
        cached.rollback_to(26)
        torch.testing.assert_close(cached.feed(tokens[:, 26:30], keep=4), expected[:, 26:30], **CLOSE)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("family", tiny.EVERY)
def test_it_equals_transformers_dynamic_cache(family):
    model = tiny.EVERY[family]()
    tokens = tiny.prompt(30, batch=3)
    model.set_attn_implementation("eager")
    theirs = DynamicCache()
    with torch.inference_mode():
        first = model(tokens[:, :25], past_key_values=theirs).logits
        second = model(tokens[:, 25:], past_key_values=theirs).logits
    with decode_attention(model):
        cached = CachedModel(model, capacity=30)
        torch.testing.assert_close(cached.feed(tokens[:, :25], keep=25), first, **CLOSE)
        torch.testing.assert_close(cached.feed(tokens[:, 25:], keep=5), second, **CLOSE)
    for ours, layer in zip(cached.cache.layers, theirs.layers, strict=True):
        torch.testing.assert_close(ours.keys, layer.keys, **CLOSE)
        torch.testing.assert_close(ours.values, layer.values, **CLOSE)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("family", tiny.EVERY)
def test_left_padding_does_not_change_a_row(family):
    model = tiny.EVERY[family]()
    rows = [tiny.prompt(n, seed=n)[0] for n in (12, 7, 10)]
    padding = torch.zeros(3, 12, dtype=torch.long)
    tokens = torch.zeros(3, 12, dtype=torch.long)
    for i, row in enumerate(rows):
        tokens[i, -len(row) :], padding[i, -len(row) :] = row, 1
    after = tiny.prompt(3, seed=77, batch=3)
    with decode_attention(model):
        cached = CachedModel(model, capacity=20, padding=padding)
        first, one, two = cached.feed(tokens), cached.feed(after[:, :1]), cached.feed(after[:, 1:], keep=2)
    for i, row in enumerate(rows):
        alone = plain_logits(model, torch.cat([row, after[i]])[None])[0]
        together = torch.cat([first[i], one[i], two[i]])
        torch.testing.assert_close(together, alone[-4:], **CLOSE)


def test_a_model_is_left_as_it_was():
    model = tiny.llama()
    before = model.config._attn_implementation

    def fail():
        with decode_attention(model):
            assert model.config._attn_implementation == ATTENTION
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert model.config._attn_implementation == before


def hidden(mask):
    """Where an additive mask of one head hides, as 0 and 1."""
    lowest = torch.finfo(mask.dtype).min
    assert ((mask == 0) | (mask == lowest)).all()
    return (mask == lowest).int()[:, 0].tolist()


def test_a_query_sees_the_slots_up_to_its_own():
    """Two query heads a KV head, stacked: the rows of the mask come twice."""
    grouped = SimpleNamespace(num_attention_heads=6, num_key_value_heads=3)
    mask = attention.slot_mask(torch.tensor([[2, 3], [0, 1]]), 5, grouped, torch.float16)
    assert mask.dtype == torch.float16
    assert hidden(mask) == [2 * [[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]], 2 * [[0, 1, 1, 1, 1], [0, 0, 1, 1, 1]]]


def test_only_a_padding_query_sees_padding_itself():
    real = torch.tensor([[0, 1, 1], [1, 1, 1]])
    alone = SimpleNamespace(num_attention_heads=4, num_key_value_heads=None)
    mask = attention.slot_mask(torch.arange(3)[None], 3, alone, torch.float32, real)
    causal = [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert hidden(mask) == [[[0, 1, 1], [1, 0, 1], [1, 0, 0]], causal]


@pytest.mark.parametrize("slots", [1, 16, 37, 256])
@pytest.mark.parametrize("groups", [1, 3])
def test_rows_of_a_mask_start_where_kernels_take_them_without_a_copy(groups, slots):
    """CUDA's kernels copy a mask whose rows do not start at multiples of 16 numbers, once a layer."""
    config = SimpleNamespace(num_attention_heads=2 * groups, num_key_value_heads=2)
    mask = slot_mask(torch.tensor([[slots - 1, slots]]), slots, config, torch.float16)
    assert mask.shape == (1, 1, 2 * groups, slots)
    assert mask.stride()[2] % 16 == 0
    assert mask.stride()[3] == 1


def test_the_mask_of_one_query_head_a_kv_head_is_used_as_it_is():
    """Repeating it, though once, would copy it in every layer."""
    config = SimpleNamespace(num_attention_heads=2, num_key_value_heads=2)
    mask = slot_mask(torch.arange(4, 8)[None], 8, config, torch.float32)
    key, value = torch.randn(1, 2, 8, 8), torch.randn(1, 2, 8, 8)
    for heads, repeated in ((2, False), (4, True)):
        with Kernels() as called:
            attention.grouped_attention(None, torch.randn(1, heads, 4, 8), key, value, mask)
        assert ("aten.repeat" in called.names) == repeated
