"""A model is read as its files mean it and written as it was read, or refused in one line that says why."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPTNeoXForCausalLM

from specpress.models import save
from specpress.models.build import random_model
from specpress.models.byte_level import byte_tokenizer
from specpress.models.load import load_model
from specpress.models.quiet import transformers_quiet
from specpress.models.save import save_model

SOURCE = {"kind": "random", "hidden_size": 16, "layers": 2, "heads": 2, "seed": 3}
TOKENS = torch.arange(1, 20)[None]


def folder(tmp_path, architecture="llama", *, config=(), without=(), weights=(), name="model"):
    """A directory as transformers writes it, with keys of config.json and weights changed by hand."""
    directory = tmp_path / name
    model, tokenizer = random_model({**SOURCE, "architecture": architecture}, dtype=torch.float32)
    with transformers_quiet():
        model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    stated = {**json.loads((directory / "config.json").read_text()), **dict(config)}
    (directory / "config.json").write_text(json.dumps({k: v for k, v in stated.items() if k not in without}))
    if weights:
        held = {**load_file(directory / "model.safetensors"), **dict(weights)}
        save_file(held, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25])
def test_the_rotated_share_of_a_gpt_neox_survives_being_written(tmp_path, share):
    """transformers issue 44913: reading puts a quarter back."""
    source = folder(tmp_path, "gpt_neox", config={"rotary_pct": share}, without=["rope_parameters"])
    model, tokenizer = load_model(source, device="cpu")
    assert model.gpt_neox.rotary_emb.inv_freq.numel() == share * 8 / 2
    save_model(model, tokenizer, tmp_path / "written", {})
    again, _ = load_model(tmp_path / "written", device="cpu")
    torch.testing.assert_close(again(TOKENS).logits, model(TOKENS).logits)
    plain = GPTNeoXForCausalLM.from_pretrained(tmp_path / "written")
    torch.testing.assert_close(plain(TOKENS).logits, model(TOKENS).logits)


def test_a_share_that_transformers_wrote_into_rope_parameters_is_read(tmp_path):
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
    model, _ = load_model(folder(tmp_path, "gpt_neox", config={"rope_parameters": rope}), device="cpu")
    assert model.gpt_neox.rotary_emb.inv_freq.numel() == 4


def _rope(model):
    model.config.rope_parameters["rope_theta"] = 77.0
    return "rope_parameters"


def _weight(model):
    model.model.norm.weight.data += 1
    return "model.norm.weight"


def _function(model):
    model.model.layers[0].mlp.act_fn = torch.nn.Tanh()
    return "logits"


@pytest.mark.parametrize("change", [_rope, _weight, _function])
def test_what_reads_back_as_another_model_is_not_published(tmp_path, monkeypatch, change):
    model, tokenizer = random_model({**SOURCE, "architecture": "llama"}, dtype=torch.float32)
    said = []

    def read(*arguments, **options):
        other, other_tokenizer = load_model(*arguments, **options)
        said.append(change(other))
        return other, other_tokenizer

    monkeypatch.setattr(save, "load_model", read)
    with pytest.raises(ValueError, match=r"was not written: read back, the model is another one \(.*") as refused:
        save_model(model, tokenizer, tmp_path / "written", {})
    assert said[0] in str(refused.value)
    assert list(tmp_path.iterdir()) == []


BIAS = {f"model.layers.{i}.self_attn.{part}_proj.bias": torch.ones(16) for i in (0, 1) for part in "qkvo"}
LAYER = {"model.layers.2.self_attn.q_proj.weight": torch.ones(16, 16)}


@pytest.mark.parametrize(
    ("weights", "config", "said"),
    [
        (BIAS, {}, r"8 weights are not spoken of by config\.json, such as model\.layers\.0\.self_attn\.k_proj\.bias"),
        (LAYER, {}, r"1 weights are not spoken of .*layers\.2"),
        ({"score.weight": torch.ones(2, 16)}, {}, r"score\.weight"),
        ({}, {"num_hidden_layers": 1}, r"9 weights are not spoken of .*layers\.1"),
    ],
    ids=["biases", "layer", "another head", "fewer layers"],
)
def test_weights_that_config_json_does_not_speak_of_are_refused(tmp_path, weights, config, said):
    with pytest.raises(ValueError, match=said):
        load_model(folder(tmp_path, config=config, weights=weights), device="cpu")


def test_a_part_head_with_weights_too_many_is_refused(tmp_path):
    ids = list(range(5))
    head = {"lm_head.weight": torch.ones(5, 16)}
    directory = folder(tmp_path, config={"head_token_ids": ids}, weights=head)
    assert load_model(directory, device="cpu")[0].head_token_ids.tolist() == ids
    with pytest.raises(ValueError, match=r"k_proj\.bias"):
        load_model(folder(tmp_path, config={"head_token_ids": ids}, weights=BIAS | head, name="b"), device="cpu")


def test_buffers_of_old_files_are_no_weights(tmp_path):
    buffers = {
        "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool),
        "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(1),
    }
    old = load_model(folder(tmp_path, "gpt_neox", weights=buffers), device="cpu")[0]
    new = load_model(folder(tmp_path, "gpt_neox", name="new"), device="cpu")[0]
    torch.testing.assert_close(old(TOKENS).logits, new(TOKENS).logits)


def test_a_head_that_is_not_the_embeddings_whatever_config_json_says(tmp_path):
    directory = folder(tmp_path, config={"tie_word_embeddings": True})
    model, tokenizer = load_model(directory, device="cpu")
    assert not torch.equal(model.get_output_embeddings().weight, model.get_input_embeddings().weight)
    save_model(model, tokenizer, tmp_path / "written", {})
    again, _ = load_model(tmp_path / "written", device="cpu")
    torch.testing.assert_close(again(TOKENS).logits, model(TOKENS).logits)


QUANTISED = [
    ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "(gptq)"),
    ({"quant_method": "awq", "bits": 4}, "(awq)"),
    ({"load_in_4bit": True}, "(bitsandbytes)"),
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "(fp8)"),
    ({}, "quantised, which"),
]


@pytest.mark.parametrize(("stated", "said"), QUANTISED)
def test_quantised_folders_are_named_as_such(tmp_path, stated, said):
    with pytest.raises(ValueError, match="bfloat16, float16 or float32, from which it was made") as refused:
        load_model(folder(tmp_path, config={"quantization_config": stated}), device="cpu")
    assert said in str(refused.value)


@pytest.mark.parametrize("whole", [False, True])
def test_an_adapter_is_to_be_merged_first(tmp_path, whole):
    directory = folder(tmp_path) if whole else tmp_path
    (directory / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds an adapter \(LoRA\).*merge_and_unload"):
        load_model(directory, device="cpu")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"rope_parameters": {"rope_type": "spiral", "rope_theta": 1e4}},
            "unknown rope type 'spiral'.*known: default, ",
        ),
        ({"rope_scaling": {"type": "spiral", "factor": 2.0}}, "unknown rope type 'spiral' in rope_scaling"),
        ({"rope_scaling": "linear"}, "rope_scaling must be a mapping, found 'linear'"),
        ({"hidden_act": "wave"}, "unknown activation hidden_act 'wave'; known: .*silu"),
        ({"num_key_value_heads": 3}, "2 attention heads and 3 key-value heads"),
        ({"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": None}, "config"),
        ({"hidden_size": "wide"}, r"config\.json"),
        ({"hidden_size": 0}, r"config\.json: hidden_size must be from 1 to 1000000, found 0"),
        ({"vocab_size": -1}, r"config\.json: vocab_size must be from 1 to 100000000, found -1"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings must be true or false, found 'false'"),
        ({"sliding_window": -1}, "sliding_window must be a whole number from 1 on, or null, found -1"),
        ({"rope_theta": 0}, r"config\.json: rope_theta must be a positive number, found 0"),
        ({"rope_parameters": {"rope_theta": float("nan")}}, r"rope_parameters\.rope_theta must be a positive number"),
        (
            {"rope_parameters": {"partial_rotary_factor": 1.5}},
            "partial_rotary_factor must be a number above 0, at most",
        ),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, r"rope_scaling\.factor must be a positive number"),
        ({"rope_parameters": {"rope_type": "yarn", "attention_factor": []}}, "attention_factor must be a number"),
        ({"rope_parameters": {"rope_type": "longrope", "long_factor": [0]}}, "long_factor must be a list of positive"),
        ({"layer_types": 3}, "layer_types must be a list of names, one a layer, found 3"),
        ({"layer_types": [1, 2]}, r"layer_types must be a list of names, one a layer, found \[1, 2\]"),
        ({"num_hidden_layers": 10**30}, r"config\.json: num_hidden_layers must be from 1 to 10000"),
        ({"num_attention_heads": None}, r"config\.json: num_attention_heads must be a whole number, found None"),
        ({"model_type": ["llama"]}, r"model family \['llama'\] is not supported"),
        ({"head_dim": 10**30}, r"no model can be made of its config.json and weights \([^\n]+\)\Z"),
        ({"max_position_embeddings": "x"}, r"config\.json: max_position_embeddings must be a whole number, found 'x'"),
        ({"rms_norm_eps": None}, r"config\.json: rms_norm_eps must be a number, found None"),
        ({"hidden_act": []}, r"unknown activation hidden_act \[\]"),
        ({"pad_token_id": 99999}, "pad_token_id must be a token of the 257, found 99999"),
    ],
)
def test_a_config_json_that_describes_no_model_is_refused(tmp_path, capfd, config, said):
    with pytest.raises(ValueError, match=said) as refused:
        load_model(folder(tmp_path, config=config), device="cpu")
    assert str(tmp_path) in str(refused.value)
    assert capfd.readouterr().err == ""


def test_a_tokenizer_that_lacks_a_file_is_refused_before_a_prompt_is(tmp_path):
    directory = folder(tmp_path)
    byte_tokenizer().save_pretrained(directory)
    (directory / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match=r"the tokenizer of .* cannot be read"):
        load_model(directory, device="cpu")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, torch.bool, torch.complex64])
def test_weights_that_are_no_numbers_of_a_model_are_refused(tmp_path, dtype):
    directory = folder(tmp_path)
    weights = load_file(directory / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].to(dtype)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"model\.safetensors: model\.norm\.weight is stored as .*not decoded here"):
        load_model(directory, device="cpu")


@pytest.mark.parametrize("text", ["[]", "3", '"llama"', "null"])
def test_a_config_json_that_is_no_object_is_refused(tmp_path, text):
    directory = folder(tmp_path)
    (directory / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json holds .*, where an object such as"):
        load_model(directory, device="cpu")
    (directory / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        load_model(directory, device="cpu")
    (directory / "config.json").write_text("[" * 50_000)
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        load_model(directory, device="cpu")


def test_models_that_transformers_loads_are_those_that_are_loaded_here(tmp_path):
    """The refusals above take nothing away: both families as transformers writes them load as they do there."""
    for architecture in ("llama", "gpt_neox"):
        directory = folder(tmp_path, architecture, name=architecture)
        ours, theirs = load_model(directory, device="cpu")[0], AutoModelForCausalLM.from_pretrained(directory)
        torch.testing.assert_close(ours(TOKENS).logits, theirs(TOKENS).logits)
