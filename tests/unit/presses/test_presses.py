"""Compression against models that hide the evicted slots, against kvpress itself, and against formulas written out."""

import contextlib
from itertools import product

import pytest
import tiny
import torch
import torch.nn.functional as F
from transformers import DynamicCache
from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb

from specpress import SamplingParams, generate
from specpress.drafters import CompressedTarget, DraftModel
from specpress.engine.attention import ATTENTION, decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.compression import compress
from specpress.engine.layer_view import attention_layers, channel_order, layer_view
from specpress.engine.observation import Observations
from specpress.experiments.press_survey import example
from specpress.presses import Compression, get_press, list_presses
from specpress.speculation.prefill import read
from specpress.study.abilities import REFUSED

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
INFOS = list_presses()
RUNNING = [name for name, info in INFOS.items() if info["status"] != REFUSED]
# `key_rerotation` renumbers, `merging` changes values and `think` keys: other tests hold them to their word
HIDING = [name for name in RUNNING if name not in ("key_rerotation", "merging", "think")]


def compressed(model, tokens, press, attention=ATTENTION):
    """A cached model prefilled with tokens and compressed, and the keys it had before."""
    cached = CachedModel(model, capacity=tokens.shape[1] + 10)
    cached.observations = Observations(model)
    with decode_attention(model, implementation=attention):
        read(cached, tokens, press)
    before = [layer.keys.clone() for layer in cached.cache.layers]
    compress(cached.cache, press, cached.observations)
    cached.observations = None
    return cached, before


def visible_slots(before, layer):
    """Which slots are left and not hidden, found by matching keys: BoolTensor (KV heads, slots)."""
    same = (layer.keys[0][:, :, None] == before[0][:, None]).all(-1)  # (heads, kept, slots)
    assert (same.sum(-1) == 1).all()
    return same.any(1) if layer.hidden is None else ~layer.hidden[0]


def logits_under_mask(model, tokens, new, visible):
    """The uncompressed model with, per layer and KV head, the other slots hidden from the new tokens."""
    model.set_attn_implementation("eager")
    prefix, hooks = tokens.shape[1], []
    config = model.config
    groups = config.num_attention_heads // getattr(config, "num_key_value_heads", config.num_attention_heads)
    for module, slots in zip(attention_layers(model), visible, strict=True):
        length = prefix + new.shape[1]
        seen = torch.ones(length, length, dtype=torch.bool).tril().repeat(slots.shape[0], 1, 1)
        seen[:, prefix:, :prefix] &= slots[:, None]
        mask = torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)
        mask = mask.repeat_interleave(groups, 0)[None]

        def use(module, args, kwargs, mask=mask):
            return args, {**kwargs, "attention_mask": mask}

        hooks.append(module.register_forward_pre_hook(use, with_kwargs=True))
    with torch.inference_mode():
        logits = model(torch.cat([tokens, new], 1), use_cache=False).logits[:, prefix:]
    for hook in hooks:
        hook.remove()
    return logits


@pytest.mark.parametrize(
    ("family", "name", "attention"),
    [*product(tiny.FAMILIES, HIDING, ["eager", "sdpa"]), *product(tiny.OTHERS, ["snapkv", "adakv"], ["sdpa"])],
)
def test_a_compressed_cache_equals_hiding_the_evicted_slots(family, name, attention):
    """One token, then after a rollback five at once. The prompt is read with the attention named, or as needed."""
    model = tiny.EVERY[family]()
    tokens, new = tiny.prompt(60), tiny.prompt(6, seed=1)
    cached, before = compressed(model, tokens, example(name), attention)
    visible = [visible_slots(keys, layer) for keys, layer in zip(before, cached.cache.layers, strict=True)]
    assert all(slots.sum(1).min() < 60 for slots in visible)
    with decode_attention(model):
        one = cached.feed(new[:, :1])
        cached.feed(tiny.prompt(4, seed=8))
        cached.rollback_to(61)  # rejected tokens are forgotten, kept slots are not
        five = cached.feed(new[:, 1:], keep=5)
    torch.testing.assert_close(torch.cat([one, five], 1), logits_under_mask(model, tokens, new, visible), **CLOSE)


def kvpress_cache(model, tokens, press):
    """What kvpress's own context manager leaves of a Llama cache, and the hidden slots of each layer."""
    model.set_attn_implementation("eager" if INFOS_BY_CLASS[type(press).__name__]["eager"] else "sdpa")
    cache = DynamicCache()
    for layer in attention_layers(model):
        layer.masked_key_indices = None
    torch.manual_seed(tokens.shape[1])  # as here, where random presses draw from the number of tokens seen
    with torch.inference_mode(), press(model):
        model(tokens, past_key_values=cache)
    return cache, [layer.masked_key_indices for layer in attention_layers(model)]


INFOS_BY_CLASS = {info["class"].split(".")[1]: info for info in INFOS.values()}


# Presses that read each of what a view shows: keys, values, queries before and after rotation, the map out.
READING = ["knorm", "keydiff", "snapkv", "tova", "expected_attention", "compactor", "criticalkv"]
KVPRESS = [
    pytest.param(family, name, marks=() if family == "llama" or name in READING else pytest.mark.slow)
    for family in ("llama", *tiny.OTHERS)
    for name in RUNNING
]


@pytest.mark.parametrize(("family", "name"), KVPRESS)
def test_it_equals_kvpress_own_context_manager_on_its_own_families(family, name):
    """A Phi-3 with all channels rotated: kvpress turns all of them, whatever a model does; it reads `head_dim`."""
    stated = {"qwen2": {"head_dim": 8}, "phi3": {"head_dim": 8, "partial_rotary_factor": 1.0}}
    model, tokens = tiny.EVERY[family](vocabulary=100, **stated.get(family, {})), tiny.distinct(60, 100)
    cached, _ = compressed(model, tokens, example(name))
    theirs, masked = kvpress_cache(model, tokens, example(name))
    for ours, layer, indices in zip(cached.cache.layers, theirs.layers, masked, strict=True):
        order, ours_order = (x.keys.sum(-1).argsort(-1) for x in (layer, ours))  # they keep the order of scores
        for mine, other in ((ours.keys, layer.keys), (ours.values, layer.values)):
            index, ours_index = (o.unsqueeze(-1).expand_as(other) for o in (order, ours_order))
            torch.testing.assert_close(mine.gather(2, ours_index), other.gather(2, index), **CLOSE)
        if indices is not None:
            expected = torch.zeros_like(ours.hidden)
            expected[tuple(indices)] = True
            assert torch.equal(ours.hidden, expected)


# ---------------------------------------------------------------------------------------------------- GPT-NeoX, by hand


@pytest.mark.parametrize("rotary", [0.25, 0.5, 1.0])
def test_the_gpt_neox_view_is_the_layer_itself_in_another_order(rotary):
    """Queries and keys, rotated in full on the view, are the layer's own, rotated in part: to the last bit."""
    model = tiny.gpt_neox(rotary_pct=rotary).double()
    layer, hidden = attention_layers(model)[0], torch.randn(1, 9, 32, dtype=torch.float64)
    view, order = layer_view(model, layer, offset=0), channel_order(8, int(8 * rotary))
    assert sorted(order) == list(range(8))
    fused = layer.query_key_value(hidden).view(1, 9, 4, 24).transpose(1, 2)
    cos, sin = model.base_model.rotary_emb(hidden, torch.arange(9)[None])
    own = apply_rotary_pos_emb(*fused.chunk(3, -1)[:2], cos, sin)
    cos, sin = view.rotary_emb(hidden, torch.arange(9)[None])
    for projection, expected in zip((view.q_proj, view.k_proj), own, strict=True):
        x = projection(hidden).view(1, 9, 4, 8).transpose(1, 2)
        turned = x * cos + torch.cat([-x[..., 4:], x[..., :4]], -1) * sin
        assert (turned - expected[..., order]).abs().max() < 1e-15
        assert torch.equal(view.restored(view.shown(expected)), expected)


@torch.inference_mode()
@pytest.mark.parametrize("family", tiny.OTHERS)
def test_a_view_shows_the_keys_that_the_layer_puts_into_its_cache(family):
    """Keys rotated in full on the view are the cache's, of a Phi-3 that rotates in part too."""
    model, tokens = tiny.EVERY[family](1).double(), tiny.prompt(9)
    cached = CachedModel(model, capacity=9)
    cached.observations = Observations(model)
    with decode_attention(model):
        cached.feed(tokens)
    view, hidden = layer_view(model, attention_layers(model)[0], 0), cached.observations.layers[0].hidden_states
    size = view.head_dim
    x = view.k_proj(hidden).view(1, 9, 2, size).transpose(1, 2)
    cos, sin = view.rotary_emb(hidden, torch.arange(9)[None])
    turned = x * cos + torch.cat([-x[..., size // 2 :], x[..., : size // 2]], -1) * sin
    torch.testing.assert_close(turned, view.shown(cached.cache.layers[0].keys))
    values = view.v_proj(hidden).view(1, 9, 2, size).transpose(1, 2)
    torch.testing.assert_close(values, cached.cache.layers[0].values)


@pytest.mark.parametrize("family", ["gpt_neox", "phi3"])
def test_compressing_changes_nothing_about_a_model(family):
    model, tokens = tiny.EVERY[family]().double(), tiny.prompt(40)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    config, modules = model.config.to_dict(), [name for name, _ in model.named_modules()]
    logits = model(tokens).logits
    for name in ("expected_attention", "snapkv", "criticalkv"):
        generate(model, tokens, max_new_tokens=3, press=example(name))
    assert (model(tokens).logits - logits).abs().max() == 0.0
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert model.config.to_dict() == config
    assert [name for name, _ in model.named_modules()] == modules


@pytest.mark.parametrize("name", ["expected_attention", "cap"])
def test_a_press_that_asks_for_later_positions_leaves_the_rotary_embedding_as_it_is(name):
    """Asked beyond its context, a dynamic one takes other frequencies, and transformers 5.2 keeps them."""
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    model, tokens = tiny.llama(max_position_embeddings=64, rope_parameters=rope), tiny.prompt(40)
    rotary = model.model.rotary_emb
    before = {buffer: value.clone() for buffer, value in rotary.named_buffers()}
    held, logits = set(vars(rotary)), model(tokens).logits
    cached, _ = compressed(model, tokens, example(name))
    assert cached.cache.slots == 20
    after = dict(rotary.named_buffers())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[buffer], value) for buffer, value in before.items())
    assert set(vars(rotary)) == held
    assert torch.equal(model(tokens).logits, logits)


def queries_and_keys(model, tokens):
    """Of each layer: queries before rotation and rotated, (heads, tokens, size), rotated keys and values."""
    found = []
    for layer, hidden in zip(attention_layers(model), attention_inputs(model, tokens), strict=True):
        q, k, v = layer.query_key_value(hidden).view(1, -1, 4, 24).transpose(1, 2).chunk(3, -1)
        cos, sin = model.base_model.rotary_emb(hidden, torch.arange(tokens.shape[1])[None])
        found.append((q[0], *(x[0] for x in apply_rotary_pos_emb(q, k, cos, sin)), v[0]))
    return found


def attention_inputs(model, tokens):
    inputs = []
    with contextlib.ExitStack() as stack:
        for layer in attention_layers(model):
            hook = layer.register_forward_pre_hook(
                lambda module, args, kwargs: inputs.append(args[0]), with_kwargs=True
            )
            stack.callback(hook.remove)
        model(tokens, use_cache=False)
    return inputs


def mean_rotation(model, start, future, size):
    """The rotation of a query's channels, averaged over `future` positions from `start`: (size, size)."""
    channels = torch.eye(size)[None, :, None].expand(1, size, future, size)  # each unit vector at each position
    cos, sin = model.base_model.rotary_emb(channels, torch.arange(start, start + future)[None])
    return apply_rotary_pos_emb(channels, channels, cos, sin)[0][0].mean(1).T


def expected_attention(model, q, k, v, n_sink=4):
    tokens, size = k.shape[1:]
    rotation = mean_rotation(model, tokens, 512, size)
    queries = q[:, n_sink:] - (mean := q[:, n_sink:].mean(1, keepdim=True))
    covariance = rotation @ (queries.transpose(1, 2) @ queries / queries.shape[1]) @ rotation.T
    k = k[:, n_sink:]
    logits = (k @ rotation @ mean.transpose(1, 2)).squeeze(-1) / size**0.5
    logits = logits + (k @ covariance * k).sum(-1) / size / 2
    return F.pad(logits.softmax(-1) * v[:, n_sink:].norm(dim=-1), (n_sink, 0), value=torch.inf)


def window_attention(q, k, window):
    """Attention of the last `window` queries: (heads, window, tokens)."""
    tokens = k.shape[1]
    hidden = torch.ones(window, tokens).triu(tokens - window + 1).bool()
    scores = q[:, -window:] @ k.transpose(1, 2) / k.shape[2] ** 0.5
    return scores.masked_fill(hidden, -torch.inf).softmax(-1)


def snapkv(model, q, turned, k, v, window=8):
    attention = window_attention(turned, k, window)[..., :-window].mean(1)
    return F.pad(F.avg_pool1d(attention, 5, 1, 2), (0, window), value=torch.inf)


SCORES = {
    "knorm": lambda model, q, turned, k, v: -k.norm(dim=-1),
    "streaming_llm": lambda model, q, turned, k, v: (
        -((torch.arange(60) >= 4) & (torch.arange(60) < 34)).float() + 0 * k[..., 0]
    ),
    "keydiff": lambda model, q, turned, k, v: -F.cosine_similarity(k, F.normalize(k, dim=-1).mean(1, True), dim=-1),
    "snapkv": snapkv,
    "tova": lambda model, q, turned, k, v: F.pad(
        window_attention(turned, k, 1)[..., :-1].mean((0, 1)).expand(4, -1), (0, 1), value=torch.inf
    ),
    "expected_attention": lambda model, q, turned, k, v: expected_attention(model, q, k, v),
}


@pytest.mark.parametrize("name", SCORES)
def test_slots_kept_on_gpt_neox_are_those_of_the_formula_on_the_unmodified_model(name):
    model, tokens = tiny.gpt_neox(vocabulary=100), tiny.distinct(60, 100)
    with torch.inference_mode():
        layers = queries_and_keys(model, tokens)
        with decode_attention(model):
            cached, before = compressed(model, tokens, example(name))
        for (q, turned, k, v), keys, layer in zip(layers, before, cached.cache.layers, strict=True):
            kept = SCORES[name](model, q, turned, k, v).topk(30).indices
            expected = torch.zeros(4, 60, dtype=torch.bool).scatter_(1, kept, True)
            assert torch.equal(visible_slots(keys, layer), expected)


# ------------------------------------------------------------------------------------------------------------ mechanics


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_rotated_back_keys_are_those_of_the_kept_tokens_alone(family):
    """In the first layer, where keys depend on a token and its position only; new tokens come right after them."""
    model, tokens = tiny.FAMILIES[family](), tiny.prompt(40)
    press = get_press("key_rerotation", compression_ratio=0.5, press="streaming_llm")
    kept = torch.cat([tokens[:, :4], tokens[:, -16:]], 1)
    alone = CachedModel(model, 40)
    with decode_attention(model):
        cached, _ = compressed(model, tokens, press)
        for reader in (cached, alone):
            reader.feed(tokens[:, :1] if reader is cached else torch.cat([kept, tokens[:, :1]], 1))
    torch.testing.assert_close(cached.cache.layers[0].keys, alone.cache.layers[0].keys, **CLOSE)
    assert (cached.cache.seen, cached.cache.position) == (41, 21)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("name", ["knorm", "snapkv", "pyramidkv", "chunkkv", "adakv"])
def test_ratio_zero_is_no_press(family, name):
    model, tokens = tiny.FAMILIES[family](), tiny.prompt(40)
    greedy = {"max_new_tokens": 12, "sampling": SamplingParams(temperature=0)}
    cached, before = compressed(model, tokens, example(name, compression_ratio=0.0))
    assert all(torch.equal(layer.keys, keys) for layer, keys in zip(cached.cache.layers, before, strict=True))
    plain, pressed = (
        generate(model, tokens, press=press, **greedy) for press in (None, example(name, compression_ratio=0.0))
    )
    assert torch.equal(plain.tokens, pressed.tokens)
    assert plain.trace.kv_bytes == pressed.trace.kv_bytes


def test_random_presses_repeat_themselves():
    model, tokens = tiny.llama(), tiny.prompt(40)
    with decode_attention(model):
        one, two = (compressed(model, tokens, example("leverage_score"))[0].cache for _ in range(2))
    assert all(torch.equal(a.keys, b.keys) for a, b in zip(one.layers, two.layers, strict=True))


@pytest.mark.parametrize(("name", "recent"), [("adaptive", 10), ("hybrid", 6), ("optimized_hybrid", 9)])
def test_the_original_studys_presses_keep_sinks_recent_slots_and_the_best_between(name, recent):
    model, tokens = tiny.llama(), tiny.prompt(60)
    press = example(name)
    cached, before = compressed(model, tokens, press)
    for keys, layer in zip(before, cached.cache.layers, strict=True):
        visible = visible_slots(keys, layer)
        assert (visible == visible[0]).all()  # all heads keep the same
        assert visible[0, : press.n_sink].all()
        assert visible[0, -recent:].all()
        if name == "adaptive":
            middle = keys[0].norm(dim=-1).mean(0)[4:50]
            expected = torch.zeros(46, dtype=torch.bool).scatter_(0, middle.topk(16).indices, True)
            assert torch.equal(visible[0, 4:50], expected)


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "nkorm"}, "unknown press 'nkorm'; known: adakv, adaptive, block"),
        ({"name": "knorm", "compression_ratio": 1.0}, "must lie in \\[0, 1\\)"),
        ({"name": "knorm", "compression_ratio": -0.1}, "must lie in \\[0, 1\\)"),
        ({"name": "streaming_llm", "n_sinks": 4}, "no parameter n_sinks; it has compression_ratio, n_sink"),
        (
            {"name": "qfilter"},
            "'qfilter' cannot run here: it needs trained filters of the model: hub repositories nthngdy",
        ),
        ({"name": "decoding"}, "use cache_budget and compression_interval instead"),
        ({"name": "adakv"}, "'adakv' needs press; press takes other presses, by name or as {name: ..., ...}"),
        ({"name": "adakv", "press": "qfilter"}, "'qfilter' cannot run here"),
        (
            {"name": "think", "compression_ratio": 0.5},
            "takes no compression_ratio; it has key_channel_compression_ratio",
        ),
        ({"name": "per_layer_compression", "press": "knorm"}, "needs compression_ratios"),
        ({"name": "merging", "press": "knorm", "merge_fraction": 2.0}, "merge_fraction must be in"),
    ],
)
def test_bad_presses_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        get_press(**arguments)


def test_every_refusal_says_why():
    for name, info in INFOS.items():
        if info["status"] == REFUSED:
            with pytest.raises(ValueError, match=f"{name}.*cannot run here: it"):
                get_press(name)


def test_what_is_no_press_is_refused():
    for use in (Compression, CompressedTarget, lambda press: DraftModel(tiny.llama(1), press=press)):
        with pytest.raises(ValueError, match="'knorm' does not compress a cache: it is no kvpress press"):
            use("knorm")


def test_list_presses_covers_kvpress():
    import kvpress

    classes = {name for name in kvpress.__all__ if name.endswith("Press")} - {"BasePress", "ScorerPress"}
    assert classes == set(INFOS_BY_CLASS) - {"AdaptivePress", "HybridPress", "OptimizedHybridPress"}
    assert INFOS["streaming_llm"]["parameters"] == {"compression_ratio": 0.0, "n_sink": 4}
    assert all(info["summary"] for info in INFOS.values())
    assert INFOS["adakv"]["wraps"]
    assert INFOS["observed_attention"]["eager"]


def test_an_attention_that_gives_no_weights_is_refused_by_name():
    model = tiny.llama()
    cached = CachedModel(model, 40)
    cached.observations = Observations(model)
    with decode_attention(model, implementation=ATTENTION):
        cached.feed(tiny.prompt(30))
    with pytest.raises(ValueError, match=r"ObservedAttentionPress cannot compress.*eager"):
        compress(cached.cache, example("observed_attention"), cached.observations)
