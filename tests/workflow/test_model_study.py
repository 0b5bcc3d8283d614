"""`make paper MODEL=`, without make: the study that `specpress new` writes, from a folder of a model to a PDF."""

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from tree import Tree
from warm import warm_python

from specpress.models.build import random_model
from specpress.models.families import FAMILIES
from specpress.models.save import save_model

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return Tree(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def warm(root):
    """The same, with jobs that are forks: a study has a hundred, most of which take longer to import than to run."""
    with warm_python(root):
        yield root


def written(tree, family):
    """The study of a tiny model of the family, as `make paper MODEL=... TEXT=...` has it written."""
    source = {"architecture": family, "hidden_size": 32, "layers": 2, "heads": 2, "seed": 0}
    save_model(*random_model(source, dtype=torch.float32), tree.path / "models" / family, {})
    command = [sys.executable, "-m", "specpress.cli.main", "new", f"models/{family}", "--device", "cpu"]
    options = ["--text", "tests/data/logbook.txt", "--draft", f"models/{family}"]
    done = subprocess.run([*command, *options], cwd=tree.path, env=tree.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def thinned(study, whole):
    """The study with less to measure: a tiny model's figures mean nothing. Unless `whole`, one value of each grid."""
    study["defaults"]["speed"] |= {"budget_seconds": 1, "precision": 0.5, "most_prompts": 4, "prompt_tokens": 24}
    study["defaults"]["speed"] |= {"max_new_tokens": 12}
    study["defaults"]["perplexity"] |= {"context": 96, "score": 32, "passages": 3, "ratios": [0, 0.3]}
    for experiment in study["experiments"]:
        experiment.pop("precision", None)
        if "prompt_tokens" in experiment:
            experiment["prompt_tokens"] = 120
        for part in (experiment, experiment.get("drafter", {})):
            if "press" in part and experiment["kind"] == "speed":  # a window of 64 slots stays
                part["press"]["compression_ratio"] = 0.3
        if "grid" in experiment and not whole:
            experiment["grid"] = {key: values[-1:] for key, values in experiment["grid"].items()}
    return study


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_paper_is_made_of_a_model_of_every_family(warm, family):
    """Of the first with every experiment, of the others with one of each kind."""
    root, file = warm, written(warm, family)
    assert file == os.path.join("config", f"{family.replace('_', '-')}.yaml")
    study = thinned(yaml.safe_load((root.path / file).read_text()), whole=family == next(iter(FAMILIES)))
    root.write_study(study, file)
    (root.path / "paper/main.pdf").unlink(missing_ok=True)
    root.snakemake("--cores", "1", "--configfile", file)
    assert (root.path / "paper/main.pdf").read_bytes().startswith(b"%PDF")
    for metrics in (root.path / f"results/{study['study']}/metrics").glob("*.json"):
        found = json.loads(metrics.read_text())
        assert found["environment"]["forward"] == "specpress"
        assert found.get("lossless", {}).get("unexplained", 0) == 0


def test_the_study_of_a_model_is_ready_to_run(root):
    jobs = root.jobs("--configfile", written(root, "qwen3"))
    assert {"prepare_model target", "prepare_data text", "run_experiment prompt-lookup-greedy"} <= jobs
