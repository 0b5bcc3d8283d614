"""Tasks, from a spec to metrics, on a model of a few thousand parameters, which can do none of them."""

import json

import pytest
import torch

from specpress.data.documents import Document
from specpress.data.store import save_split
from specpress.experiments import tasks
from specpress.experiments.run import run
from specpress.models.build import random_model
from specpress.models.save import save_model

SPEC = {
    "id": "broken",
    "kind": "tasks",
    "model": "target",
    "data": "words",
    "context": 400,
    "samples": 5,
    "batch": 3,
    "answer_tokens": 6,
    "seed": 0,
    "tasks": [{"name": "single_needle"}, {"name": "several_needles", "needles": 2}],
    "presses": [{"name": "knorm"}, {"name": "snapkv", "window_size": 8}],
    "ratios": [0, 0.5, 0.75],
    "modes": ["agnostic", "aware"],
    "bar": 0.4,
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    source = {"kind": "random", "architecture": "llama", "hidden_size": 16, "layers": 1, "heads": 2, "seed": 0}
    model, tokenizer = random_model(source, dtype=torch.float32)
    save_model(model, tokenizer, folder / "target", {"source": source})
    documents = [Document(str(i), f"Words {i}", f"The words of text {i}. " * 60) for i in range(14)]
    save_split(folder / "words", documents, 0.5, {"source": {"kind": "path"}})
    return {"models": {"target": folder / "target"}, "data": {"words": folder / "words"}, "threads": 1}


def test_a_task_that_the_full_cache_fails_is_not_put_to_presses(places):
    metrics = run(SPEC, **places)
    assert [task["task"] for task in metrics["tasks"]] == SPEC["tasks"]
    for task in metrics["tasks"]:
        assert task["able"] is False
        assert task["results"] == []
        assert task["full"]["scores"] == [0.0] * 5
        assert len(task["full"]["texts"]) == len(task["samples"]) == 5
        assert task["full"]["slots"] == 400
        assert all(len(sample["answers"]) == 1 for sample in task["samples"])
    json.dumps(metrics, allow_nan=False)


def test_a_task_that_it_can_do_is_put_to_every_press_ratio_and_mode_and_texts_are_scored_by_what_they_contain(
    places, monkeypatch
):
    """With a judge that finds in every answer of the full cache, and in every second one of another, what was asked."""
    monkeypatch.setattr(tasks, "score", lambda answers, text: float(bool(text)))
    metrics = run(SPEC, **places)
    for task in metrics["tasks"]:
        assert task["able"] is True
        settings = [(r["press"]["name"], r["ratio"], r["mode"]) for r in task["results"]]
        assert settings == [
            (press, ratio, mode)
            for mode in ("agnostic", "aware")
            for press in ("knorm", "snapkv")
            for ratio in (0.5, 0.75)
        ]
        for result in task["results"]:
            assert len(result["scores"]) == len(result["texts"]) == 5
            asked = {"agnostic": 400, "aware": 400 + (result["slots"] / (1 - result["ratio"]) - 400)}[result["mode"]]
            assert result["slots"] == pytest.approx(asked * (1 - result["ratio"]), abs=1)  # a mean: questions differ
            assert result["slots"] > 400 * (1 - result["ratio"]) or result["mode"] == "agnostic"
            assert result["kv_bytes"] == result["slots"] * 2 * 16 * 4
    json.dumps(metrics, allow_nan=False)


def test_a_batch_answers_as_its_contexts_do_alone(places, monkeypatch):
    monkeypatch.setattr(tasks, "score", lambda answers, text: 1.0)
    together, alone = (run({**SPEC, "batch": batch, "ratios": [0, 0.5]}, **places)["tasks"] for batch in (4, 1))
    for one, other in zip(together, alone, strict=True):
        assert [result["texts"] for result in one["results"]] == [result["texts"] for result in other["results"]]
        assert one["full"]["texts"] == other["full"]["texts"]


def test_what_cannot_be_asked_is_refused(places):
    with pytest.raises(ValueError, match="what is hidden takes"):
        run({**SPEC, "context": 80, "tasks": [{"name": "several_needles", "needles": 5}]}, **places)
    with pytest.raises(ValueError, match="broken: chat: the tokenizer of target has no chat template; take a model"):
        run({**SPEC, "chat": True}, **places)
