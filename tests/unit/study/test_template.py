"""The study that is written for a model suits its context, its tokenizer and the device."""

import pytest
import yaml

from specpress.study.load import load_study
from specpress.study.template import write_study
from specpress.theory.shapes import shape_of, stated_shape

MODEL = {"kind": "path", "path": "somewhere"}
CONFIG = {
    **{"model_type": "qwen2", "vocab_size": 50_000, "hidden_size": 1024, "intermediate_size": 4096},
    **{"num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 4, "max_position_embeddings": 8192},
}


def study(device="cpu", **changes):
    return load_study(yaml.safe_load(write_study("mine", MODEL, {**CONFIG, **changes}, device=device)))


def kinds(study):
    return {spec["kind"] for spec in study.experiments.values()}


def drafters(study):
    return {spec["drafter"]["name"] for spec in study.experiments.values() if "drafter" in spec}


def test_tasks_are_for_models_whose_tokenizer_and_context_hold_them():
    assert "tasks" in kinds(study())
    assert "tasks" not in kinds(study(vocab_size=257))
    assert "tasks" not in kinds(study(max_position_embeddings=600))


def test_a_copy_in_fewer_bits_drafts_where_it_can_be_held_so():
    assert "quantized_target" in drafters(study())
    assert "quantized_target" not in drafters(study("cuda"))
    assert "quantized_target" not in drafters(study(intermediate_size=4100))


def test_the_tree_of_both_lookups_is_in_it_warmed_by_the_text():
    used = [spec["drafter"] for spec in study().experiments.values() if "drafter" in spec]
    trees = [drafter for drafter in used if drafter["name"] == "mixture"]
    assert len(trees) == 2
    assert all(tree["drafters"][1]["warm"] == "wikipedia" for tree in trees)


def test_the_original_schedule_stands_beside_the_constant_length_it_starts_from():
    written = write_study("mine", MODEL, CONFIG, draft=MODEL, draft_config=CONFIG)
    specs = load_study(yaml.safe_load(written)).experiments
    aimd, constant = specs["speculative-aimd-sampled"], specs["speculative-gamma4-sampled"]
    start = {"name": "constant", "gamma": aimd["schedule"]["initial"]}
    assert {**aimd, "schedule": start} == {**constant, "id": aimd["id"]}
    assert specs["speculative-confidence-sampled"]["schedule"] == {"name": "confidence"}


@pytest.mark.parametrize(
    "room", [{"max_position_embeddings": 300}, {"sliding_window": 300, "use_sliding_window": True}]
)
def test_no_text_is_longer_than_context_and_window(room):
    for spec in study(**room).experiments.values():
        assert spec.get("prompt_tokens", 0) + spec.get("max_new_tokens", 0) <= 300
        assert spec.get("context", 0) + spec.get("score", 0) <= 300


@pytest.mark.parametrize("head", [{}, {"head_dim": 128}])
def test_the_shape_it_states_is_the_models(head):
    stated = study(**head).models["target"]["shape"]
    assert stated_shape(stated) == shape_of({**CONFIG, **head})


def test_a_large_model_is_given_the_seconds_it_takes():
    def budget(config):
        return next(spec["budget_seconds"] for spec in config.experiments.values() if spec["kind"] == "speed")

    seven = study(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32)
    assert budget(seven) > 3 * budget(study())
