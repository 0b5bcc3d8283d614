"""What is counted as the harness's own time in a benchmark: everything that no part was timed for, and nothing else."""

import json
import time

import pytest
import torch
from benchmark_scripts import benchmark, save_words

from specpress.decoding.loop import Loop
from specpress.drafters import PromptLookup
from specpress.experiments.assets import Assets
from specpress.experiments.duels import contest
from specpress.models.build import random_model
from specpress.models.save import save_model

SPEC = {
    **{"id": "beside", "kind": "speed", "baseline": "target", "model": "target", "data": "words", "seed": 0},
    **{"prompt_tokens": 12, "max_new_tokens": 12, "sampling": {"name": "greedy", "temperature": 0}},
    **{"precision": 1e-4, "budget_seconds": 60, "least_prompts": 3, "most_prompts": 4, "verification": "token"},
    **{"drafter": {"name": "prompt_lookup"}, "schedule": {"name": "constant", "gamma": 2}},
}


@pytest.fixture(scope="module")
def harness():
    return benchmark("harness")


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beside")
    source = {"kind": "random", "architecture": "llama", "hidden_size": 16, "layers": 1, "heads": 2, "seed": 0}
    save_model(*random_model(source, dtype=torch.float32), folder / "target", {"source": source})
    save_words(folder / "words", {"kind": "path"})
    return Assets({"target": folder / "target"}, {"words": folder / "words"}, "cpu")


@pytest.fixture
def now(monkeypatch):
    """A clock that moves when it is told to, for parts and the whole alike."""
    told = [0.0]
    for module in (time, contest.time):
        monkeypatch.setattr(module, "perf_counter", lambda: told[0])
    monkeypatch.setattr("specpress.decoding.generation.clock", lambda device: told[0])
    monkeypatch.setattr("specpress.experiments.duels.duel.clock", lambda device: told[0])
    return told


@pytest.mark.parametrize("between", [0.0, 0.5])
def test_what_passes_between_parts_is_the_harness(harness, assets, now, monkeypatch, between):
    """Each forward takes a second, drafting half of one, and after each part of the method some time passes."""
    monkeypatch.setattr(contest, "_NO_MATTER", 10.0)
    advance, parts, propose = Loop._advance, Loop.parts, PromptLookup.propose

    def half(self, *args):
        now[0] += 0.5
        return propose(self, *args)

    def second(self, *args):
        now[0] += 1.0
        return advance(self, *args)

    def slow(self, *args):
        for part in parts(self, *args):
            yield part
            now[0] += between if self.drafter else 0.0

    monkeypatch.setattr(PromptLookup, "propose", half)
    monkeypatch.setattr(Loop, "_advance", second)
    monkeypatch.setattr(Loop, "parts", slow)
    before = contest.duel
    first, whole, *others = harness.rows(SPEC, assets)
    json.dumps([first, whole, *others])
    assert contest.duel is before
    assert first["parts"] > 30
    if between:
        assert first["ratio"] > between / 2
        assert whole["ratio"] > 0.1
    else:
        assert first["ratio"] == pytest.approx(0, abs=1e-9)
        assert whole["ratio"] == pytest.approx(0, abs=1e-9)
    if others:
        assert others[0]["ratio"] == pytest.approx(1, abs=0.01) or between


def test_the_stopwatch_is_put_back(harness):
    before = harness.Stopwatch.part
    with harness.PartTimer():
        assert harness.Stopwatch.part is not before
    assert harness.Stopwatch.part is before
