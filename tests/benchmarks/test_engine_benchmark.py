"""The experiment of `make bench`, on tiny models: what a study's file would be refused for stops it after minutes."""

import math

import torch
from benchmark_scripts import benchmark, save_words

from specpress.experiments.assets import Assets
from specpress.experiments.duels import contest
from specpress.models.build import random_model
from specpress.models.save import save_model


def test_measured_and_predicted_speedups_come_from_one_experiment(tmp_path, monkeypatch):
    monkeypatch.setattr(contest, "_NO_MATTER", 10.0)
    for name, layers in (("target", 2), ("draft", 1)):
        source = {"kind": "random", "architecture": "llama", "hidden_size": 16, "layers": layers, "heads": 2, "seed": 0}
        save_model(*random_model(source, dtype=torch.float32), tmp_path / name, {"source": source})
    save_words(tmp_path / "text", {"kind": "path"})
    models = {name: tmp_path / name for name in ("target", "draft")}
    engine = benchmark("engine")
    tiny = {"prompt_tokens": 12, "max_new_tokens": 12, "most_prompts": 4, "budget_seconds": 5}
    rows = engine.compare_with_theory(engine.THEORY | tiny, Assets(models, {"text": tmp_path / "text"}, "cpu"), 0.92)
    names = ["speculative over autoregressive, sampled", "measured over predicted speed-up"]
    assert [row["name"] for row in rows] == names
    assert all(math.isfinite(row["ratio"]) for row in rows)
