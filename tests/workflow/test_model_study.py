"""`make paper MODEL=`, without make: the study that `specpress new` writes, from a folder of a model to a PDF."""

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from tree import Tree

from specpress.models.build import random_model
from specpress.models.families import FAMILIES
from specpress.models.save import save_model

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return Tree(tmp_path_factory.mktemp("models"))


def written(tree, family):
    """The study of a tiny model of the family, as `make paper MODEL=... TEXT=...` has it written."""
    source = {"architecture": family, "hidden_size": 32, "layers": 2, "heads": 2, "seed": 0}
    save_model(*random_model(source, dtype=torch.float32), tree.path / "models" / family, {})
    command = [sys.executable, "-m", "specpress.cli.main", "new", f"models/{family}", "--device", "cpu"]
    options = ["--text", "tests/data/logbook.txt", "--draft", f"models/{family}"]
    done = subprocess.run([*command, *options], cwd=tree.path, env=tree.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_paper_is_made_of_a_model_of_every_family(root, family):
    """With less to measure: a tiny model's figures mean nothing."""
    file = written(root, family)
    assert file == os.path.join("config", f"{family.replace('_', '-')}.yaml")
    study = yaml.safe_load((root.path / file).read_text())
    study["defaults"]["speed"] |= {"budget_seconds": 1, "precision": 0.5, "most_prompts": 4, "prompt_tokens": 24}
    study["defaults"]["speed"] |= {"max_new_tokens": 12}
    study["defaults"]["perplexity"] |= {"context": 96, "score": 32, "passages": 3}
    for experiment in study["experiments"]:
        experiment.pop("precision", None)
        if "prompt_tokens" in experiment:
            experiment["prompt_tokens"] = 120
    root.write_study(study, file)
    root.snakemake("--cores", "1", "--configfile", file)
    assert (root.path / "paper" / "main.pdf").read_bytes().startswith(b"%PDF")
    metrics = json.loads((root.path / f"results/{study['study']}/metrics/prompt-lookup-greedy.json").read_text())
    assert metrics["environment"]["forward"] == "specpress"


def test_the_study_of_a_model_is_ready_to_run(root):
    jobs = root.jobs("--configfile", written(root, "qwen3"))
    assert {"prepare_model target", "prepare_data text", "run_experiment prompt-lookup-greedy"} <= jobs
