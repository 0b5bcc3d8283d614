"""The forward pass of decoding against the model's own modules, and when it stands aside."""

import copy
import gc
import weakref
from unittest.mock import Mock

import pytest
import tiny
import torch
from instruments import Kernels
from torch import nn

from specpress.engine import forward, linear
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.forward import forward_of
from specpress.engine.fused import FusedForward
from specpress.engine.linear import LinearMap
from specpress.engine.observation import Observations
from specpress.models.quantized import QuantizedLinear, dequantized, quantize_model, quantized

LLAMA_3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
VARIANTS = {
    "llama": lambda: tiny.llama(),
    "llama with biases": lambda: tiny.llama(attention_bias=True, mlp_bias=True),
    "llama with heads of another size": lambda: tiny.llama(head_dim=16),
    "llama, tied": lambda: tiny.llama(tie_word_embeddings=True),
    "llama, linear rope": lambda: tiny.llama(rope_parameters=_rope(rope_type="linear", factor=2.0)),
    "llama, dynamic rope": lambda: tiny.llama(
        max_position_embeddings=16, rope_parameters=_rope(rope_type="dynamic", factor=2.0)
    ),
    "llama 3": lambda: tiny.llama(rope_parameters=_rope(**LLAMA_3, original_max_position_embeddings=64)),
    "llama, head over part of the vocabulary": lambda: tiny.with_subset_head(tiny.llama(), 20),
    **tiny.OTHERS,
    "mistral with heads of another size": lambda: tiny.mistral(head_dim=16),
    "qwen2 with a window longer than the text": lambda: tiny.qwen2(
        use_sliding_window=True, sliding_window=64, max_window_layers=1
    ),
    "qwen3 with biases": lambda: tiny.qwen3(attention_bias=True),
    "phi3, all channels rotated": lambda: tiny.phi3(partial_rotary_factor=1.0),
    "phi3, longrope": lambda: tiny.phi3(
        partial_rotary_factor=1.0,
        original_max_position_embeddings=64,
        rope_parameters=_rope(
            rope_type="longrope", short_factor=[1.0, 1.1, 1.2, 1.3], long_factor=[2.0, 4.0, 8.0, 16.0]
        ),
    ),
    "gpt_neox": lambda: tiny.gpt_neox(),
    "gpt_neox, one after the other": lambda: tiny.gpt_neox(use_parallel_residual=False),
    "gpt_neox, all channels rotated": lambda: tiny.gpt_neox(rotary_pct=1.0),
    "gpt_neox without biases": lambda: tiny.gpt_neox(attention_bias=False),
}


def _rope(**parameters):
    return {"rope_theta": 10000.0, **parameters}


def both(model, feeds, other=None):
    """Logits of feeds, LongTensor (batch, n) each, on one cache: by the pass, and by the modules (of another model)."""
    passes = []
    for own in (model, other or model):
        cached = CachedModel(own, capacity=8)
        if passes:
            cached.forward = None
        with decode_attention(own):
            passes.append([cached.feed(tokens, keep=tokens.shape[1]) for tokens in feeds])
    return passes


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("batch", [1, 3])
def test_it_equals_the_models_own_modules(variant, batch):
    model = VARIANTS[variant]()
    assert forward_of(model) is not None
    feeds = [tiny.prompt(n, batch=batch, seed=n) for n in (11, 1, 5, 1)]
    other = copy.deepcopy(model)  # a dynamic rotary embedding remembers the longest text it has seen
    for ours, theirs in zip(*both(model, feeds, other), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", tiny.EVERY)
def test_it_equals_the_models_own_modules_in_bfloat16(family):
    model = tiny.EVERY[family]().to(torch.bfloat16)
    feeds = [tiny.prompt(n, seed=n) for n in (11, 1, 5)]
    for ours, theirs in zip(*both(model, feeds), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.1, rtol=0.02)  # sums in another order, rounded each time


@pytest.mark.parametrize("by_modules", [False, True])
def test_each_row_gets_the_logits_of_the_places_it_asks_for_alone(by_modules):
    """Prompts of very different lengths in a batch would else cost logits for all places between their ends."""
    model, lengths = tiny.llama(), [12, 5, 9]
    if by_modules:
        model.register_forward_hook(lambda *_: None)
    assert (forward_of(model) is None) == by_modules
    rows = [tiny.prompt(n, seed=n)[0] for n in lengths]
    places = torch.tensor([[n - 2, n - 1] for n in lengths])
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    logits = CachedModel(model, 20).feed(tokens, keep=places)
    assert logits.shape == (3, 2, tiny.VOCABULARY)
    for got, row in zip(logits, rows, strict=True):
        torch.testing.assert_close(got, CachedModel(model, 20).feed(row[None], keep=2)[0])


def test_the_table_of_rotations_grows(monkeypatch):
    monkeypatch.setattr(forward, "_TABLE_BLOCK", 4)
    model = tiny.llama()
    for ours, theirs in zip(*both(model, [tiny.prompt(3), tiny.prompt(6), tiny.prompt(1)]), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", tiny.EVERY)
def test_presses_are_shown_what_hooks_would_have_seen(family):
    model = tiny.EVERY[family]()
    seen = []
    for hidden_from in (False, True):
        cached = CachedModel(model, capacity=30)
        cached.forward = None if hidden_from else cached.forward
        cached.observations = Observations(model)
        with decode_attention(model):
            cached.feed(tiny.prompt(9))
            cached.feed(tiny.prompt(4, seed=1))
            cached.rollback_to(10)
            cached.feed(tiny.prompt(2, seed=2))
        seen.append([layer.hidden_states for layer in cached.observations.layers])
    assert seen[0][0].shape[1] == 12
    for ours, theirs in zip(*seen, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("change", ["autograd", "data", "replaced"])
def test_it_follows_the_weights(dtype, change):
    model = tiny.llama().to(dtype)
    before = both(model, [tiny.prompt(5)])[0][0]
    weight = model.model.layers[1].mlp.up_proj.weight
    if change == "autograd":
        with torch.no_grad():
            weight[3:] *= 3  # not the first row
    elif change == "data":
        weight.data.mul_(3)
    else:
        model.model.layers[1].mlp.up_proj.weight = nn.Parameter(weight.detach() * 3)
    ours, theirs = (logits[0] for logits in both(model, [tiny.prompt(5)]))
    assert not torch.allclose(ours, before, atol=0.2)
    torch.testing.assert_close(ours, theirs, atol=0.1 if dtype == torch.bfloat16 else 1e-4, rtol=0.02)


def test_whether_weights_have_changed_is_seen_without_slicing_each_of_them():
    model = tiny.llama()
    with Kernels() as first:
        forward_of(model)
    with Kernels() as second:
        forward_of(model)
    weights = len(list(model.parameters()))
    assert first.names.count("aten.slice") >= weights
    assert sorted(second.names) == ["aten.cat", "aten.equal"]


def test_it_stands_aside_for_what_only_modules_can_do():
    class Adapter(nn.Linear):
        pass

    model = tiny.llama()
    first = forward_of(model)
    assert first is not None
    assert forward_of(model) is first
    assert forward_of(model.train()) is None
    assert forward_of(model.eval()) is first
    hook = model.model.layers[0].mlp.register_forward_hook(lambda *_: None)
    assert forward_of(model) is None
    hook.remove()
    model.model.layers[0].mlp.forward = model.model.layers[0].mlp.forward
    assert forward_of(model) is None
    del model.model.layers[0].mlp.forward
    assert forward_of(model) is first
    model.model.layers[0].mlp.up_proj = Adapter(48, 64, bias=False)
    assert forward_of(model) is None


def test_it_stands_aside_for_layers_on_several_devices():
    """Hooks bring what each of them needs to its device; weights of both cannot even be compared with those known."""
    model = tiny.llama()
    model.model.layers[1].to("meta").register_forward_pre_hook(lambda *_: None)
    assert forward_of(model) is None


def test_another_attention_than_ours_is_left_to_the_model():
    model = tiny.llama()
    cached = CachedModel(model, capacity=20)
    cached.forward = None
    expected = cached.feed(tiny.prompt(9))
    cached = CachedModel(model, capacity=20)
    cached.forward = Mock(window=None, side_effect=lambda *_: pytest.fail("asked"))
    torch.testing.assert_close(cached.feed(tiny.prompt(9)), expected)


def test_a_model_that_is_gone_takes_its_pass_along():
    model = tiny.gpt_neox()
    pass_ = weakref.ref(forward_of(model))
    del model
    gc.collect()
    assert pass_() is None


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_joined_maps_give_their_outputs_end_to_end(bias, dtype):
    torch.manual_seed(0)
    maps = [nn.Linear(32, width, bias=bias, dtype=dtype) for width in (48, 16, 16)]
    joined = LinearMap(maps)
    assert joined.nbytes == 80 * 32 * dtype.itemsize
    for rows in (1, 5, 70):
        x = torch.randn(2, rows, 32).to(dtype)
        with torch.inference_mode():
            torch.testing.assert_close(joined(x), torch.cat([m(x) for m in maps], -1), atol=1e-2, rtol=1e-2)


def test_weights_that_cannot_be_packed_are_used_as_they_are(monkeypatch):
    monkeypatch.setattr(linear, "_onednn_has_bfloat16", lambda: False)
    maps = [nn.Linear(8, 4, dtype=torch.bfloat16) for _ in range(2)]
    x = torch.randn(1, 3, 8).bfloat16()
    torch.testing.assert_close(LinearMap(maps)(x), torch.cat([m(x) for m in maps], -1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_joined_maps_in_fewer_bits_equal_their_weights(planes, bias, dtype):
    """By the packed kernel, whatever the number of rows and of outputs, and dequantised from many rows on."""
    torch.manual_seed(0)
    maps = [QuantizedLinear(64, out, planes) for out in (48, 7)]
    for part in maps:
        part.codes, part.scales = quantized(torch.randn(part.out_features, 64), planes)
        part.bias = nn.Parameter(torch.randn(part.out_features).to(dtype)) if bias else None
    wide = torch.cat([dequantized(m.codes, m.scales, planes) for m in maps])
    joined = LinearMap(maps)
    assert joined.nbytes == sum(m.codes.nbytes + m.scales.nbytes for m in maps)
    for rows in (1, 5, 70, 130, 200):
        x = torch.randn(1, rows, 64).to(dtype)
        with torch.inference_mode():
            expected = x.float() @ wide.T + (torch.cat([m.bias for m in maps]) if bias else 0)
            got = joined(x)
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), expected, atol=0.2, rtol=0.01)  # results rounded, weights too from 128


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("weights", ["q4", "q8"])
@pytest.mark.parametrize("family", tiny.EVERY)
def test_it_equals_the_modules_of_a_model_in_fewer_bits(family, weights, dtype):
    """The pass rounds what codes are multiplied with to bfloat16 in every dtype, for a token and for a long prompt."""
    model = quantize_model(tiny.EVERY[family](hidden_size=192).to(dtype), weights)
    assert forward_of(model) is not None
    feeds = [tiny.prompt(n, seed=n) for n in (11, 1, 5, 140)]
    for ours, theirs in zip(*both(model, feeds), strict=True):
        assert (ours.float() - theirs.float()).norm() < 0.025 * theirs.float().norm()


def test_models_of_64_bits_have_no_fused_kernels():
    """In which sums are float32; tests/unit/engine/test_fused.py has the others."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert FusedForward.knows(forward_of(tiny.llama().to(dtype))) == (dtype != torch.float64)
