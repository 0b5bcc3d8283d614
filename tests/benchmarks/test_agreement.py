"""Pairs of runs, alone and beside a load: on a tiny study, and on made-up costs that agree or do not."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import yaml
from benchmark_scripts import benchmark, save_words

from specpress.experiments.duels import contest
from specpress.models.build import random_model
from specpress.models.save import save_model
from specpress.theory.costs import Brackets
from specpress.theory.duels import Text, speedup
from specpress.theory.parts import VERIFICATION


@pytest.fixture(scope="module")
def agreement():
    return benchmark("agreement")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A study of two speed experiments and a longer one, with its model and text as the workflow prepares them."""
    root = tmp_path_factory.mktemp("prepared")
    source = {"kind": "random", "architecture": "llama", "hidden_size": 16, "layers": 1, "heads": 2, "seed": 0}
    text = {"kind": "path", "path": __file__}
    model, tokenizer = random_model(source, dtype=torch.float32)
    resources = root / "resources" / "small"
    save_model(model, tokenizer, resources / "models" / "target", {"source": source})
    save_words(resources / "data" / "words", text)
    common = {
        **{"kind": "speed", "model": "target", "data": "words", "prompt_tokens": 12, "max_new_tokens": 8, "seed": 0},
        **{"verification": "token"},
        **{"precision": 0.1, "budget_seconds": 60, "least_prompts": 3, "most_prompts": 4, "sampling": "greedy"},
    }
    lookup = {"drafter": {"name": "prompt_lookup"}, "schedule": {"name": "constant", "gamma": 2}}
    study = {
        **{"study": "small", "baseline": "target", "models": {"target": {"source": source, "dtype": "float32"}}},
        **{
            "data": {"words": {"source": text, "reader": "text", "test_fraction": 0.5}},
            "sampling": {"greedy": {"temperature": 0}},
        },
        "experiments": [
            {"id": "control", **common},
            {"id": "lookup", **common, **lookup},
            {"id": "long", **common, "prompt_tokens": 20},
        ],
    }
    (root / "study.yaml").write_text(yaml.safe_dump(study))
    return root


def test_each_experiment_runs_twice_on_the_same_prompts(agreement, prepared, monkeypatch):
    shares = []

    @contextmanager
    def load(share):
        shares.append(share)
        yield

    monkeypatch.setattr(agreement, "load", load)
    monkeypatch.setattr(contest, "_NO_MATTER", 1.0)  # steps of this model take less than a clock does
    output = prepared / "agreement.json"
    places = ["--study", str(prepared / "study.yaml"), "--root", str(prepared), "--output", str(output)]
    options = ["--budget", "0.01", "--threads", "1", "--longest", "12", "--experiments", "control,l*"]
    monkeypatch.setattr("sys.argv", ["agreement.py", *places, *options])
    agreement.main()
    found = json.loads(output.read_text())
    assert [row["experiment"] for row in found["rows"]] == ["control", "lookup"]
    assert shares == [0.2, 0.0, 0.0, 0.2]
    assert all(row["prompts"] == [3, 3] and None not in row["machine"] for row in found["rows"])
    assert (found["summary"]["pairs"], found["summary"]["errors"]) == (2, 0)


def run(cost, tokens):
    """A run as `once` gives it, whose verification costs `cost` steps, with prompts of such tokens in ten rounds."""
    ratios = cost * np.exp(0.05 * np.random.default_rng(0).standard_normal(48))
    columns = {"prompt": [0] * 48, "part": [VERIFICATION] * 48, "size": [5] * 48}
    brackets = Brackets.from_columns(columns | {"seconds": ratios, "before": [1.0] * 48, "after": [1.0] * 48})
    texts = [Text(n, {(VERIFICATION, 5): 10}) for n in tokens]
    joint = speedup(texts, brackets)
    return {"joint": joint, "texts": texts, "brackets": brackets, "step_ms": 20.0, "disturbance": {}}


@pytest.mark.parametrize(
    ("costs", "tokens", "apart", "machine_apart"),
    [
        ((1.1, 1.101), (29, 30, 31), False, False),
        ((1.1, 1.6), (29, 30, 31), True, True),
        ((1.1, 1.6), (10, 30, 90), False, True),  # prompts that differ hide it from the interval that is printed
    ],
)
def test_a_pair_is_apart_where_no_point_is_in_both(agreement, monkeypatch, costs, tokens, apart, machine_apart):
    alone, loaded = (run(cost, tokens) for cost in costs)
    monkeypatch.setattr(agreement, "once", lambda spec, assets, share, budget: loaded if share else alone)
    row = agreement.compare({"id": "made up"}, None, 0.2, 6, turn=0)
    assert (row["apart"], row["machine_apart"]) == (apart, machine_apart)
    assert row["speedups"][0] == pytest.approx(sum(tokens) / 30 / 1.1, rel=0.5)
    counted = agreement.summed_up([row])
    assert (counted["apart"]["apart"], counted["machine_apart"]["apart"]) == (apart, machine_apart)


def test_a_run_that_contradicts_itself_is_a_row_of_its_own(agreement, monkeypatch):
    def once(spec, assets, share, budget):
        raise ValueError("whole rounds take twice what their parts take")

    monkeypatch.setattr(agreement, "once", once)
    found = list(agreement.rows([{"id": "odd"}], None, 0.2, 6))
    assert "twice" in agreement.line(found[0])
    assert agreement.summed_up(found)["errors"] == 1
