"""A tiny study on the GPU from end to end, where there is Snakemake; and the check of a GPU at its tiny size."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import studies
from tree import Tree

from specpress.study.load import load_study

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).parents[2]


def test_the_check_of_a_gpu_at_its_tiny_size(gpu, tmp_path):
    output = tmp_path / "check.json"
    command = [sys.executable, ROOT / "benchmarks" / "gpu_check.py", "--tiny", "--output", output]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(output.read_text())["failed"] == {}


@pytest.mark.skipif(importlib.util.find_spec("snakemake") is None, reason="no Snakemake here")
def test_a_tiny_study(gpu, tmp_path):
    tree = Tree(tmp_path)
    study = studies.of_a_gpu()
    tree.write_study(study)
    wanted = [f"results/tiny/metrics/{name}.json" for name in load_study(study).experiments]
    tree.snakemake("--cores", "2", *wanted, "results/tiny/machine.json")
    for file in wanted:
        environment = json.loads((tree.path / file).read_text())["environment"]
        assert environment["device"] == "cuda"
        assert environment["settings"]["cuda_graphs"] is True
