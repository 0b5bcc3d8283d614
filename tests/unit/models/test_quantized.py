"""Weights in four and eight bits: codes against what they stand for, models that hold them, files that bring them."""

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from specpress.models import gguf_blocks as gguf
from specpress.models.load import load_model
from specpress.models.quantized import (
    GROUP,
    QuantizedLinear,
    dequantized,
    packed_nibbles,
    parameters,
    quantize_model,
    quantized,
    quantized_copy,
    unpacked_nibbles,
    weight_bytes,
)
from specpress.models.save import model_size, save_model


def weight(out=48, features=64, seed=0):
    return torch.randn(out, features, generator=torch.Generator().manual_seed(seed))


def test_packing_loses_no_code():
    codes = torch.arange(96, dtype=torch.uint8).view(3, 32) % 16
    assert torch.equal(unpacked_nibbles(packed_nibbles(codes)), codes)
    assert packed_nibbles(codes)[0, 1] == 2 + 16 * 3  # the first of two codes is in the lower half


@pytest.mark.parametrize(("planes", "steps"), [(1, 15), (2, 254)])
def test_a_weight_is_rounded_to_the_nearest_code(planes, steps):
    w = weight()
    w[0, :GROUP], w[1, :GROUP] = 0, 0.75  # groups of one number
    got = dequantized(*quantized(w, planes), planes)
    groups = w.unflatten(1, (-1, GROUP))
    span = 2 * groups.abs().amax(2, keepdim=True) if planes == 2 else groups.amax(2, True) - groups.amin(2, True)
    allowed = 0.5 * span / steps + 2**-7 * groups.abs().amax(2, keepdim=True)  # half a step, and what bfloat16 rounds
    assert ((got.unflatten(1, (-1, GROUP)) - groups).abs() <= allowed).all()
    assert (got - w).norm() < (0.1 if planes == 1 else 0.01) * w.norm()


def test_what_codes_stand_for_is_found_again():
    """Numbers that have codes come back to the last bit."""
    codes = torch.randint(0, 16, (48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    codes[:, ::GROUP], codes[:, 1::GROUP] = 0, 15
    scales = torch.stack([torch.full((2, 48), 0.125), torch.full((2, 48), -0.5)], -1).bfloat16()
    w = dequantized(packed_nibbles(codes), scales, 1)
    assert w[0, 0] == -8 * 0.125 - 0.5
    assert torch.equal(dequantized(*quantized(w, 1), 1), w)
    signed = torch.randint(-127, 128, (48, 64), generator=torch.Generator().manual_seed(1))
    signed[:, ::GROUP] = -127
    assert torch.equal(dequantized(*quantized(signed * 0.25, 2), 2), signed * 0.25)


def test_blocks_of_a_gguf_file_keep_their_codes():
    """Q4_1 and Q8_0 as ggml lays them out, against the gguf package: to the last bit where bfloat16 holds d and m."""
    from gguf import GGMLQuantizationType as Kind
    from gguf.quants import dequantize

    generator = np.random.default_rng(0)
    four = generator.integers(0, 256, (6, 2, 20), dtype=np.uint8)
    four[..., :4] = np.array([0.125, -0.75], np.float16).view(np.uint8)
    expected = torch.from_numpy(dequantize(four.reshape(6, -1), Kind.Q4_1))
    assert torch.equal(dequantized(*gguf.four_bits(torch.from_numpy(four)), 1), expected)
    eight = generator.integers(0, 256, (6, 2, 34), dtype=np.uint8)
    eight[..., :2] = np.array([0.0625], np.float16).view(np.uint8)
    expected = torch.from_numpy(dequantize(eight.reshape(6, -1), Kind.Q8_0))
    assert torch.equal(dequantized(*gguf.eight_bits(torch.from_numpy(eight)), 2), expected)


@pytest.mark.parametrize("weights", ["q4", "q8"])
@pytest.mark.parametrize("family", tiny.EVERY)
def test_a_model_in_fewer_bits_is_the_model_of_those_weights(family, weights):
    """The modules of the quantised model against the same architecture with the dequantised weights put in."""
    model, plain = (tiny.EVERY[family](hidden_size=192) for _ in range(2))
    before, count = sum(p.nbytes for p in model.parameters()), model.num_parameters()
    quantize_model(model, weights)
    assert not [name for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    assert model.get_output_embeddings().planes == 2
    for name, linear in [(n, m) for n, m in plain.named_modules() if isinstance(m, nn.Linear)]:
        linear.weight.data = model.get_submodule(name).weight.float()
    tokens = tiny.prompt(9)
    with torch.inference_mode():
        torch.testing.assert_close(model(tokens).logits, plain(tokens).logits)
    assert weight_bytes(model) < before
    assert parameters(model) == count


@pytest.mark.parametrize("weights", ["q4", "q8"])
def test_a_saved_model_in_fewer_bits_is_loaded_as_it_was(weights, tmp_path):
    plain = tiny.llama(hidden_size=96, tie_word_embeddings=True).bfloat16()
    count = plain.num_parameters()
    model = quantize_model(plain, weights)
    save_model(model, None, tmp_path / "model", {})
    for asked in (None, weights):
        with pytest.warns(UserWarning, match="no tokenizer"):
            loaded, _ = load_model(tmp_path / "model", weights=asked)
        theirs, ours = loaded.state_dict(), model.state_dict()
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[name], ours[name]) for name in ours)
        assert parameters(loaded) == parameters(model) == count  # the head, tied once, counts once
    with pytest.raises(ValueError, match="leave `weights` out"):
        load_model(tmp_path / "model", weights={"q4": "q8", "q8": "q4"}[weights])


def test_a_plain_directory_is_held_in_fewer_bits_when_asked(tmp_path):
    model = tiny.llama(hidden_size=96)
    save_model(model, None, tmp_path / "model", {})
    with pytest.warns(UserWarning, match="no tokenizer"):
        loaded, _ = load_model(tmp_path / "model", weights="q4")
    name = "model.layers.1.mlp.down_proj"
    assert torch.equal(loaded.get_submodule(name).codes, quantized(model.get_submodule(name).weight, 1)[0])


def test_its_size_counts_codes_and_scales():
    model = quantize_model(tiny.llama(hidden_size=96, tie_word_embeddings=True).bfloat16(), "q4")
    size, embeddings = model_size(model), model.model.embed_tokens.weight.nbytes
    assert size["weight_bytes"] == weight_bytes(model)
    assert size["step_weight_bytes"] == weight_bytes(model) - embeddings
    numbers = sum(m.in_features * m.out_features for m in model.modules() if isinstance(m, QuantizedLinear))
    head = model.lm_head.in_features * model.lm_head.out_features
    norms = sum(p.nbytes for p in model.parameters()) - embeddings
    assert size["step_weight_bytes"] == norms + 0.625 * (numbers - head) + 1.25 * head


def test_what_cannot_be_held_in_fewer_bits_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"q_proj has 48 inputs, not a multiple of 32"):
        quantize_model(tiny.llama(), "q4")
    with pytest.raises(ValueError, match="unknown weights 'q5'; use q4, q8"):
        quantize_model(tiny.llama(hidden_size=96), "q5")
    with pytest.raises(ValueError, match="run on a CPU only, not on meta"):
        quantize_model(tiny.llama(hidden_size=96).to("meta"), "q4")


def test_larger_groups_share_their_scale_and_are_coarser():
    w = weight(features=160)  # the last group of 128 has 32
    scales = quantized(w, 1, 128)[1]
    assert torch.equal(scales[0], scales[3])
    assert not torch.equal(scales[3], scales[4])
    assert torch.equal(scales[4], quantized(w[:, 128:], 1)[1][0])
    coarse = [(dequantized(*quantized(w, 1, *how), 1) - w).norm() for how in ((32,), (128,), (128, True))]
    assert coarse == sorted(coarse)


def test_symmetric_groups_have_no_offset_and_mirror():
    w = weight()
    codes, scales = quantized(w, 1, 32, symmetric=True)
    assert (scales[..., 1] == 0).all()
    mirrored = quantized(-w, 1, 32, symmetric=True)
    assert torch.equal(dequantized(*mirrored, 1), -dequantized(codes, scales, 1))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_quantized_copy_shares_what_it_does_not_hold_in_codes(family):
    model = tiny.FAMILIES[family](hidden_size=192)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    copied = quantized_copy(model, 4, 128, symmetric=True)
    assert copied.get_input_embeddings().weight is model.get_input_embeddings().weight
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for name, linear in [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]:
        expected = dequantized(*quantized(linear.weight, 1, 128, True), 1).bfloat16()
        assert torch.equal(copied.get_submodule(name).weight, expected)
    with pytest.raises(ValueError, match="in q4 already"):
        quantized_copy(copied, 4)


def test_a_model_no_map_of_which_has_groups_is_refused():
    with pytest.raises(ValueError, match="multiple of 32: it cannot be quantised"):
        quantized_copy(tiny.llama(hidden_size=48, intermediate_size=48), 4)
