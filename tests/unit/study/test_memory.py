"""Sizes of models by their shapes alone, and the memory an experiment needs."""

import json
import weakref

import pytest
import torch
from tiny import EVERY, FAMILIES, prompt
from transformers import GPTNeoXConfig, LlamaConfig

from specpress.decoding import perplexity
from specpress.engine import cached_model
from specpress.engine.cache import PreallocatedCache
from specpress.engine.compression import compress
from specpress.experiments.preflight import check
from specpress.experiments.run import run
from specpress.models.build import build_model, random_model
from specpress.models.families import FAMILIES as MODELS
from specpress.models.quantized import quantize_model
from specpress.models.save import model_size, save_model
from specpress.presses import Compression, get_press
from specpress.study.checks.schema import schema
from specpress.study.memory import GRAPHS_BYTES, estimate, quantized_copies, require
from specpress.theory.shapes import ARCHITECTURES, shape_of, stated_shape

SIZES = {
    "target": {"weight_bytes": 1000, "kv_bytes_per_token": 10, "layers": 2},
    "draft": {"weight_bytes": 100, "kv_bytes_per_token": 1, "layers": 1},
}
SPEED = {
    **{"kind": "speed", "model": "target", "baseline": "target", "prompt_tokens": 6, "max_new_tokens": 4},
    **{"drafter": {"name": "draft_model", "model": "draft"}},
}


@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("tied", [False, True])
def test_a_shape_knows_the_parameters_of_its_model(family, tied):
    model = EVERY[family](3, tie_word_embeddings=tied)
    assert shape_of(model.config.to_dict()).parameters == model.num_parameters()
    assert shape_of(model.config.to_dict()).size("float32") == model_size(model)


@pytest.mark.parametrize("weights", ["q4", "q8"])
@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("tied", [False, True])
def test_a_shape_knows_the_bytes_of_a_model_in_fewer_bits(family, tied, weights):
    model = EVERY[family](3, hidden_size=192, tie_word_embeddings=tied).bfloat16()
    shape = shape_of(model.config.to_dict())
    assert shape.size("bfloat16", weights) == model_size(quantize_model(model, weights))


@pytest.mark.parametrize("config", [LlamaConfig, GPTNeoXConfig])
def test_a_shape_knows_a_cut_head(config):
    sizes = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    made = config(**sizes, num_attention_heads=2, tie_word_embeddings=False, head_token_ids=[1, 2, 5])
    assert shape_of(made.to_dict()).parameters == build_model(made).num_parameters()


def test_a_random_source_states_its_shape():
    source = {"architecture": "llama", "hidden_size": 64, "layers": 3, "heads": 4, "kv_heads": 2, "seed": 0}
    model, _ = random_model(source, dtype=torch.bfloat16)
    assert stated_shape(source, vocabulary=257).size("bfloat16") == model_size(model)


def test_the_original_models_have_their_published_sizes():
    for hidden, layers, heads, parameters in (
        *((512, 6, 8, 70_426_624), (1024, 24, 16, 405_334_016)),
        (2560, 32, 32, 2_775_208_960),
    ):
        stated = {"architecture": "gpt_neox", "hidden_size": hidden, "layers": layers, "heads": heads}
        shape = stated_shape({**stated, "vocabulary": 50304})
        assert shape.parameters == parameters
    assert shape.size("float16")["kv_bytes_per_token"] == 320 * 1024


def test_every_family_has_a_shape_and_a_name_in_the_schema():
    named = schema()["$defs"]
    assert set(ARCHITECTURES) == set(MODELS)
    for part in ("random", "shape"):
        assert set(named[part]["properties"]["architecture"]["enum"]) == set(MODELS)


def test_other_families_have_no_shape():
    with pytest.raises(ValueError, match="'gpt2' is not supported; supported: gpt_neox, llama, mistral, phi3, qwen"):
        shape_of({"model_type": "gpt2"})


def test_an_estimate_counts_weights_caches_and_activations():
    parts = estimate(SPEED, SIZES, "cpu")
    assert parts["weights of target"] == 1000
    assert parts["weights of draft"] == 100
    assert parts["KV cache of target, 2 x 1 x 10 tokens"] == 200
    assert parts["KV cache of draft, 1 x 1 x 10 tokens"] == 10
    assert sum(parts.values()) > 1310


def test_on_a_gpu_graphs_and_the_buffers_they_stay_in_count():
    parts, cpu = estimate(SPEED, SIZES, "cuda:0"), estimate(SPEED, SIZES, "cpu")
    assert parts["KV cache of target, 3 x 1 x 10 tokens"] == 300
    assert parts["KV cache of draft, 2 x 1 x 10 tokens"] == 20
    assert sum(parts.values()) == sum(cpu.values()) + 110 + GRAPHS_BYTES


def test_perplexity_has_a_cache_for_every_point_and_two_prompts():
    """As `decoding.perplexity` holds them: see `test_memory_of_perplexity` below for the count."""
    spec = {"kind": "perplexity", "model": "target", "context": 100, "score": 28, "ratios": [0, 0.3, 0.7]}
    assert estimate(spec, SIZES, "cpu")["KV cache of target, 5 x 1 x 128 tokens"] == 5 * 1280
    assert "KV cache of target, 7 x 1 x 128 tokens" in estimate({**spec, "decoding_interval": 8}, SIZES, "cpu")


def test_memory_of_perplexity(monkeypatch):
    """The caches that are really there at once, when the last of them is compressed."""
    alive = weakref.WeakSet()
    read, copied = perplexity.read, PreallocatedCache.clone

    def reading(cached, *arguments):
        alive.add(cached.cache)
        return read(cached, *arguments)

    def copying(cache):
        alive.add(copy := copied(cache))
        return copy

    monkeypatch.setattr(perplexity, "read", reading)
    monkeypatch.setattr(PreallocatedCache, "clone", copying)
    most = []

    def counting(cache, *arguments):
        most.append(len(alive))
        return compress(cache, *arguments)

    monkeypatch.setattr(cached_model, "compress", counting)
    press, weights = get_press("knorm", compression_ratio=0.5), get_press("observed_attention", compression_ratio=0.5)
    settings = [Compression(), Compression(press), Compression(weights), Compression(press, 20, 4)]
    list(perplexity.perplexities(FAMILIES["llama"](), prompt(48), context=40, settings=settings))
    assert max(most) == 2 + len(settings)


def test_tasks_have_a_cache_a_mode_what_was_observed_and_a_copy():
    spec = {"kind": "tasks", "model": "target", "context": 100, "answer_tokens": 6, "batch": 4, "modes": ["agnostic"]}
    assert "KV cache of target, 3 x 4 x 228 tokens" in estimate(spec, SIZES, "cpu")
    assert "KV cache of target, 5 x 4 x 228 tokens" in estimate({**spec, "modes": ["agnostic", "aware"]}, SIZES, "cpu")


def test_hidden_states_that_presses_are_shown_count_where_kv_heads_are_few():
    sizes = {"target": {**SIZES["target"], "hidden_size": 40}}  # 160 bytes a token over two layers, the cache has 10
    spec = {"kind": "perplexity", "model": "target", "context": 100, "score": 28, "ratios": [0, 0.5]}
    part = "hidden states of target that presses are shown"
    assert estimate({**spec, "press": {"name": "knorm"}}, sizes, "cpu")[part] == 128 * 160
    assert part not in estimate(spec, sizes, "cpu")
    tasks = {"kind": "tasks", "model": "target", "context": 100, "batch": 4, "presses": [{"name": "knorm"}]}
    assert estimate({**tasks, "modes": ["agnostic", "aware"]}, sizes, "cpu")[part] == 4 * 228 * 2 * (160 - 10)


def test_on_a_cpu_bfloat16_weights_count_again_as_packed():
    sizes = {name: {**size, "dtype": "bfloat16", "step_weight_bytes": 7} for name, size in SIZES.items()}
    assert estimate(SPEED, sizes, "cpu")["packed weights of draft"] == 7
    for device, dtype in (("cuda", "bfloat16"), ("cpu", "float32")):
        parts = estimate(SPEED, {name: {**size, "dtype": dtype} for name, size in sizes.items()}, device)
        assert not any(part.startswith("packed") for part in parts)


def test_the_largest_batch_and_context_count():
    regime = {"kind": "regime", "model": "target", "batches": [1, 8], "contexts": [64, 512], "steps": 8}
    assert estimate(regime, SIZES, "cpu")["KV cache of target, 2 x 8 x 520 tokens"] == 2 * 8 * 520 * 10
    assert estimate({**regime, "max_kv_bytes": 1000}, SIZES, "cpu")["KV cache of target, 2 x 8 x 520 tokens"] == 2000


def test_what_cannot_fit_is_refused_with_the_numbers():
    sizes = {name: {**size, "weight_bytes": 10**9} for name, size in SIZES.items()}
    require(SPEED, sizes, 4 * 10**9, "cuda")
    with pytest.raises(
        ValueError, match=r"needs about 3.00 GB of memory, cuda has 2.50 GB free:\n +1.00 GB  weights of"
    ):
        require(SPEED, sizes, 25 * 10**8, "cuda")


@pytest.fixture
def prepared(tmp_path):
    """Two prepared models with the byte-level tokenizer."""
    source = {"architecture": "llama", "hidden_size": 32, "layers": 1, "heads": 2}
    for seed, name in enumerate(("target", "draft")):
        save_model(*random_model({**source, "seed": seed}), tmp_path / name, {})
    return {name: tmp_path / name for name in ("target", "draft")}


def test_an_experiment_is_checked_before_its_models_are_loaded(prepared, monkeypatch):
    check(SPEED, prepared, torch.device("cpu"))
    monkeypatch.setattr("specpress.experiments.assets.load_with", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.setattr("specpress.experiments.preflight.free_memory", lambda device: 1000)
    with pytest.raises(ValueError, match=r"needs about .* of memory, cpu has 0.00 GB free"):
        run({"id": "x", **SPEED}, models=prepared, data={}, threads=1, device="cpu")


def test_texts_longer_than_the_models_context_are_refused_before_a_model_is_loaded(prepared):
    tasks = {"id": "t", "kind": "tasks", "model": "target", "context": 1920, "answer_tokens": 4, "modes": ["aware"]}
    check(tasks, prepared, torch.device("cpu"))
    longer = r"t: texts of 2049 tokens do not fit the context of target, 2048 tokens; make context smaller, or"
    with pytest.raises(ValueError, match=longer):
        check({**tasks, "context": 1921}, prepared, torch.device("cpu"))
    with pytest.raises(ValueError, match="make prompt_tokens or max_new_tokens smaller"):
        check({"id": "s", **SPEED, "prompt_tokens": 2045}, prepared, torch.device("cpu"))


def test_texts_past_a_window_are_refused_under_a_press_before_a_model_is_loaded(prepared):
    file = prepared["target"] / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sliding_window": 9}))
    press = {"name": "knorm", "compression_ratio": 0.5}
    check({"id": "s", **SPEED}, prepared, torch.device("cpu"))
    check({"id": "s", **SPEED, "max_new_tokens": 3, "press": press}, prepared, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"s: texts of 10 tokens go past the window of 9 that target attends to"):
        check({"id": "s", **SPEED, "press": press}, prepared, torch.device("cpu"))


def test_another_vocabulary_is_refused_with_the_reason(prepared):
    file = prepared["draft"] / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["vocab"] |= {"a": 98, "b": 97}
    file.write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match=r"draft cannot draft for target: token 97 is 'b' there and 'a' in target"):
        check(SPEED, prepared, torch.device("cpu"))
    config = prepared["draft"] / "config.json"
    config.write_text(config.read_text().replace('"vocab_size": 257', '"vocab_size": 300'))
    with pytest.raises(ValueError, match=r"vocabulary of 300 tokens, target one of 257. Speculative .* train one from"):
        check(SPEED, prepared, torch.device("cpu"))
    check({**SPEED, "drafter": {"name": "prompt_lookup"}}, prepared, torch.device("cpu"))


def test_a_copy_in_fewer_bits_is_counted_by_the_model_it_is_made_of():
    inner = {"name": "quantized_target", "bits": 8}
    cascade = {"name": "cascade", "intermediate_model": "draft", "drafter": inner}
    spec = SPEED | {"drafter": {"name": "quantized_target"}}
    assert quantized_copies(spec) == [("target", 4)]
    assert quantized_copies(SPEED | {"drafter": cascade}) == [("draft", 8)]
    assert quantized_copies(SPEED) == []
    sizes = {"target": SIZES["target"] | {"step_weight_bytes": 800}}
    without = spec | {"drafter": {"name": "prompt_lookup"}}
    extra = estimate(spec, sizes, "cpu").items() - estimate(without, sizes, "cpu").items()
    assert extra == {("weights of target in 4 bits, as they are and packed", 500)}
