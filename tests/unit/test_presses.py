import pytest
import tiny
import torch

from specpress.attention import decode_attention
from specpress.cached_model import CachedModel
from specpress.presses import get_press, list_presses
from specpress.presses.compression import compress
from specpress.presses.layer_view import attention_layers
from specpress.presses.observation import observed_attention

NAMES = sorted(list_presses())
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def compressed(model, tokens, press):
    """A cached model prefilled with tokens and compressed, and the keys it had before."""
    cached = CachedModel(model, capacity=tokens.shape[1] + 10)
    with observed_attention(model) as observations:
        cached.feed(tokens)
    before = [layer.keys.clone() for layer in cached.cache.layers]
    compress(cached.cache, press, observations)
    return cached, before


def kept_slots(before, layer):
    """Which slots are left, found by matching keys: (KV heads, kept)."""
    same = (layer.keys[0][:, :, None] == before[0][:, None]).all(-1)  # (heads, kept, slots)
    assert (same.sum(-1) == 1).all()
    return same.long().argmax(-1)


def logits_under_mask(model, tokens, new, kept):
    """The uncompressed model with, per layer and KV head, the evicted slots hidden from the new tokens."""
    model.set_attn_implementation("eager")
    prefix, hooks = tokens.shape[1], []
    config = model.config
    groups = config.num_attention_heads // getattr(config, "num_key_value_heads", config.num_attention_heads)
    for module, slots in zip(attention_layers(model), kept, strict=True):
        length = prefix + new.shape[1]
        visible = torch.ones(length, length, dtype=torch.bool).tril().repeat(slots.shape[0], 1, 1)
        hidden = torch.ones(slots.shape[0], prefix, dtype=torch.bool).scatter_(1, slots, False)
        visible[:, prefix:, :prefix] &= ~hidden[:, None]
        mask = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)
        mask = mask.repeat_interleave(groups, 0)[None]

        def use(module, args, kwargs, mask=mask):
            return args, {**kwargs, "attention_mask": mask}

        hooks.append(module.register_forward_pre_hook(use, with_kwargs=True))
    with torch.inference_mode():
        logits = model(torch.cat([tokens, new], 1), use_cache=False).logits[:, prefix:]
    for hook in hooks:
        hook.remove()
    return logits


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ratio", [0.3, 0.7])
def test_a_compressed_cache_equals_hiding_the_evicted_slots(family, name, ratio):
    model = tiny.FAMILIES[family]()
    tokens, new = tiny.prompt(60), tiny.prompt(6, seed=1)
    with decode_attention(model):
        cached, before = compressed(model, tokens, get_press(name, compression_ratio=ratio))
        kept = [kept_slots(keys, layer) for keys, layer in zip(before, cached.cache.layers, strict=True)]
        one = cached.feed(new[:, :1])
        cached.feed(tiny.prompt(4, seed=8))
        cached.rollback_to(61)  # rejected tokens are forgotten, kept slots are not
        five = cached.feed(new[:, 1:], keep=5)
    expected = logits_under_mask(model, tokens, new, kept)
    torch.testing.assert_close(torch.cat([one, five], 1), expected, **CLOSE)
    for slots in kept:
        assert slots.shape[1] == int(60 * (1 - ratio))
        assert (slots.diff(dim=-1) > 0).all()  # in position order


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_which_slots_are_kept(family):
    """StreamingLLM: sinks and the most recent. Knorm: the smallest key norms."""
    model, tokens = tiny.FAMILIES[family](), tiny.prompt(50)
    with decode_attention(model):
        streaming, before = compressed(model, tokens, get_press("streaming_llm", compression_ratio=0.5, n_sink=3))
        for keys, layer in zip(before, streaming.cache.layers, strict=True):
            assert kept_slots(keys, layer).tolist() == [[0, 1, 2, *range(28, 50)]] * keys.shape[1]
        knorm, before = compressed(model, tokens, get_press("knorm", compression_ratio=0.5))
        for keys, layer in zip(before, knorm.cache.layers, strict=True):
            norms = keys[0].norm(dim=-1)
            kept = norms.gather(1, kept_slots(keys, layer))  # norms, not slots: repeated tokens tie
            torch.testing.assert_close(kept.sort(-1).values, norms.sort(-1).values[:, :25])


@pytest.mark.parametrize("name", NAMES)
def test_it_equals_kvpress_own_context_manager_on_llama(name):
    from transformers import DynamicCache

    model, tokens = tiny.llama(), tiny.prompt(40)
    press = get_press(name, compression_ratio=0.4)
    with decode_attention(model):
        cached, _ = compressed(model, tokens, press)
    theirs = DynamicCache()
    with torch.inference_mode(), press(model):
        model(tokens, past_key_values=theirs)
    for ours, layer in zip(cached.cache.layers, theirs.layers, strict=True):
        order = layer.keys.sum(-1).argsort(-1)  # kvpress keeps score order, we keep position order
        ours_order = ours.keys.sum(-1).argsort(-1)
        index, ours_index = (o.unsqueeze(-1).expand_as(layer.keys) for o in (order, ours_order))
        torch.testing.assert_close(ours.keys.gather(2, ours_index), layer.keys.gather(2, index), **CLOSE)


def test_ratio_zero_leaves_the_cache_alone():
    model = tiny.llama()
    with decode_attention(model):
        cached, before = compressed(model, tiny.prompt(20), get_press("knorm"))
    assert all(torch.equal(layer.keys, keys) for layer, keys in zip(cached.cache.layers, before, strict=True))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "nkorm"}, "unknown press 'nkorm'; known: knorm, streaming_llm"),
        ({"name": "knorm", "compression_ratio": 1.0}, "must lie in \\[0, 1\\)"),
        ({"name": "knorm", "compression_ratio": -0.1}, "must lie in \\[0, 1\\)"),
        ({"name": "streaming_llm", "n_sinks": 4}, "no parameter n_sinks; it has compression_ratio, n_sink"),
    ],
)
def test_bad_presses_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        get_press(**arguments)


def test_a_press_that_scores_nothing_is_refused():
    model = tiny.llama()
    with decode_attention(model), pytest.raises(ValueError, match="object does not score cache slots"):
        compressed(model, tiny.prompt(10), object())


def test_list_presses_describes_each():
    listed = list_presses()
    assert listed["streaming_llm"]["parameters"] == {"compression_ratio": 0.0, "n_sink": 4}
    assert all(info["summary"] for info in listed.values())
