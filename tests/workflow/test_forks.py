"""What a fork of the warm process measures and trains is what a script of its own does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tree import ROOT

SOURCE = {"kind": "random", "architecture": "llama", "hidden_size": 32, "layers": 2, "heads": 4, "seed": 0}
DATA = {"kind": "path", "path": str(ROOT / "tests/data/logbook.txt")}
DRAFT = {
    **{"name": "draft", "target": "target", "data": ["logbook"], "layers": 1, "vocabulary": 64, "tokens": 4096},
    **{"sequence": 64, "batch": 8, "evaluation": 512, "seed": 0},
}
QUALITY = {
    **{"id": "quality", "kind": "perplexity", "baseline": "target", "model": "target", "data": "logbook"},
    **{"context": 40, "score": 20, "passages": 2, "seed": 0, "press": {"name": "knorm"}, "ratios": [0, 0.5]},
}
PROBE = """
import os, sys
from specpress.files import warm

def threads(number):
    # numpy's own are there from the beginning, but for a fork
    import torch
    before = len(os.listdir("/proc/self/task"))
    torch.set_num_threads(number)
    torch.rand(512, 512) @ torch.rand(512, 512)
    return len(os.listdir("/proc/self/task")) - before

def main():
    import torch
    with open("probe.txt", "w") as file:
        print(torch.__config__.parallel_info(), threads(1), threads(2), file=file)
    print(warm._is_fork)

if __name__ == "__main__":
    sys.exit(warm.run_warm(main, *warm.MODELS))
"""
IN_ONE = """
import json, runpy, sys
for command in json.loads(sys.argv[1]):
    sys.argv = command
    sys.path.insert(0, command[0].rpartition("/")[0])
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code, command
"""
VARIES = {"started", "wall_seconds", "peak_memory_bytes", "disturbance", "seconds", "timings"}


def script(name: str) -> str:
    return str(ROOT / f"scripts/{name}.py")


def commands(folder: Path) -> list[list[str]]:
    """Every kind of script that can be a fork, but for those that only time."""
    make = [script("prepare_model"), "--source", json.dumps(SOURCE), "--output", "target", "--dtype", "float32"]
    read = [script("prepare_data"), "--source", json.dumps(DATA), "--output", "logbook", "--reader", "text"]
    teach = [script("train_draft"), "--spec", json.dumps(DRAFT), "--target", "target", "--data", "logbook=logbook"]
    judge = [script("run_experiment"), "--spec", json.dumps(QUALITY), "--model", "target=target"]
    return [
        [str(folder / "probe.py")],
        make,
        [*read, "--test-fraction", "0.4", "--document-characters", "2000"],
        [*teach, "--threads", "1", "--output", "draft"],
        [*judge, "--data", "logbook=logbook", "--threads", "1", "--output", "quality.json"],
    ]


def stable(value):
    """A metrics file without what the clock and the system say."""
    if isinstance(value, dict):
        return {key: stable(part) for key, part in value.items() if key not in VARIES}
    return [stable(part) for part in value] if isinstance(value, list) else value


def environment(run: int, warm: bool) -> dict[str, str]:
    started = {"SPECPRESS_RUN": str(run), "SPECPRESS_WARM": str(int(warm))}
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "2", **started}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """The folders in which the scripts have run, as forks and, to import torch once only, in one process."""
    folders = {how: tmp_path_factory.mktemp(how) for how in ("warm", "cold")}
    for folder in folders.values():
        (folder / ".snakemake").mkdir()
        (folder / "probe.py").write_text(PROBE)
    snakemake = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        for command in commands(folders["warm"]):
            own = {"cwd": folders["warm"], "env": environment(snakemake.pid, warm=True)}
            done = subprocess.run([sys.executable, *command], capture_output=True, text=True, **own)
            assert done.returncode == 0, done.stderr
            assert "probe" not in command[0] or done.stdout == "True\n"
    finally:
        snakemake.communicate(b"\n")
    own = {"cwd": folders["cold"], "env": environment(0, warm=False)}
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE, json.dumps(commands(folders["cold"]))], capture_output=True, text=True, **own
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("False\n")
    return folders


def test_a_fork_has_the_threads_of_a_script(made):
    warm, cold = ((folder / "probe.txt").read_text() for folder in made.values())
    assert warm == cold
    assert "OMP_NUM_THREADS : 2" in warm
    assert warm.endswith(" 0 1\n")


def test_models_and_drafts_are_the_same_bytes(made):
    for file in ("target/model.safetensors", "target/manifest.json", "draft/model.safetensors", "draft/config.json"):
        assert len({(folder / file).read_bytes() for folder in made.values()}) == 1, file


@pytest.mark.parametrize("file", ["quality.json", "draft/metrics.json"])
def test_metrics_are_the_same(made, file):
    warm, cold = (stable(json.loads((folder / file).read_text())) for folder in made.values())
    assert warm["environment"]["threads"] == 1
    assert warm == cold
