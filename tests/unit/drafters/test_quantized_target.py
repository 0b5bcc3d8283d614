"""The target drafting with its own weights in fewer bits, on its own cache."""

import pytest
import tiny
import torch

from specpress import SamplingParams, generate
from specpress.drafters import QuantizedTarget
from specpress.drafters.quantized_target import copy_of
from specpress.engine.cached_model import CachedModel
from specpress.laws.law import Laws
from specpress.laws.sampling import Randomness
from specpress.models.quantized import dequantized, quantized
from specpress.schedules import Constant
from specpress.schedules.base import never

GREEDY = SamplingParams(temperature=0)


def drafter_after(model, tokens, **settings):
    """A drafter after the prefill of `tokens` but the last, and the target's cache."""
    drafter, cached = QuantizedTarget(**settings), CachedModel(model, 64)
    drafter.start(model, SamplingParams(), Randomness(0), 64)
    cached.feed(tokens[None, :-1])
    drafter.prefilled(cached, None)
    return drafter, cached


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_it_reads_the_targets_cache_and_leaves_it_as_it_was(family):
    model, tokens = tiny.FAMILIES[family](), tiny.prompt(12)[0]
    drafter, cached = drafter_after(model, tokens)
    before = [layer.keys.clone() for layer in cached.cache.layers]
    drafter.propose(tokens, 4, never)
    assert cached.length == 11
    assert all(torch.equal(layer.keys, keys) for layer, keys in zip(cached.cache.layers, before, strict=True))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_its_first_law_is_the_copys_after_the_targets_keys_and_values(family):
    """With the weights rounded back into a plain model: one step of it on the cache that the target filled."""
    make, tokens = tiny.FAMILIES[family], tiny.prompt(12)[0]
    model = make(hidden_size=192).bfloat16()
    drafter, cached = drafter_after(model, tokens, bits=4, group=128, symmetric=True)
    plain = make(hidden_size=192).bfloat16()
    for module in plain.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data = dequantized(*quantized(module.weight.data, 1, 128, True), 1).bfloat16()
    oracle = CachedModel(plain, 64)
    oracle.cache = cached.cache.clone()
    oracle.model.set_attn_implementation("specpress")
    expected = Laws(oracle.feed(tokens[None, -1:])[0], SamplingParams())[0]
    law = drafter.propose(tokens, 1, never).laws[0]
    own = Laws(CachedModel(model, 64).feed(tokens[None])[0], SamplingParams())[0]
    off, apart = (abs(mass - expected.mass).sum() for mass in (law.mass, own.mass))
    assert off < 0.3 * apart  # both round to bfloat16, and the weights' rounding is what tells them apart


def test_a_target_whose_weights_are_codes_already_accepts_every_draft():
    model = tiny.llama(hidden_size=192)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data = dequantized(*quantized(module.weight.data, 2), 2)
    settings = {"max_new_tokens": 30, "sampling": GREEDY, "schedule": Constant(4)}
    result = generate(model, tiny.prompt(12), drafter=QuantizedTarget(8), **settings)
    assert result.metrics()["acceptance_rate"] == 1


def test_a_copy_is_made_once_and_again_when_weights_change():
    model = tiny.llama()
    first = copy_of(model, 4, 32, False)
    assert copy_of(model, 4, 32, False) is first
    assert copy_of(model, 8, 32, False) is not first
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(2)
    again = copy_of(model, 4, 32, False)
    assert again is not first
    assert not torch.equal(again.model.layers[0].mlp.down_proj.scales, first.model.layers[0].mlp.down_proj.scales)


@pytest.mark.parametrize("settings", [{"bits": 3}, {"group": 48}, {"group": 0}])
def test_other_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        QuantizedTarget(**settings)
