"""The SLURM profile on a real cluster of one node: a study to its PDF, a job that fails, Ctrl-C."""

import copy
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import cluster
import pytest
import yaml
from tree import ROOT, Tree

pytestmark = pytest.mark.slurm

TINY = yaml.safe_load((ROOT / "tests" / "study.yaml").read_text())
RUN = ["--workflow-profile", "profiles/slurm", "--configfile", "study.yaml", "--cores", "1"]
RUN += [
    "--latency-wait",
    "20",
    "--slurm-init-seconds-before-status-checks",
    "2",
    "--seconds-between-status-checks",
    "2",
]
TARGET = ["--", "paper/main.pdf"]


@pytest.fixture(scope="module")
def slurm():
    """The folder of a running cluster, or a skip with the reason."""
    if reason := cluster.why_not():
        pytest.skip(reason)
    pytest.importorskip("snakemake_executor_plugin_slurm")
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(cluster.running())
        except cluster.NotUp as error:
            pytest.skip(f"SLURM's daemons do not come up on this machine:\n{error}")
        yield folder


def small(*, experiments: list[dict]) -> dict:
    """The tiny study with these experiments only."""
    return {**copy.deepcopy(TINY), "experiments": experiments}


GOOD = [
    {
        **{"id": "speculative-greedy", "kind": "speed", "sampling": "greedy"},
        **{"drafter": {"name": "draft_model", "model": "draft"}, "schedule": {"name": "constant", "gamma": 2}},
    },
    {"id": "perplexity-knorm", "kind": "perplexity", "press": {"name": "knorm"}, "ratios": [0, 0.5]},
]
BAD = {"id": "impossible", "kind": "speed", "sampling": "greedy", "prompt_tokens": 1_900, "most_prompts": 1000,
       "least_prompts": 1000, "budget_seconds": 20}  # fmt: skip
LONG = {"id": "long", "kind": "speed", "sampling": "greedy", "max_new_tokens": 1000}
LONG |= {"precision": 1e-6, "budget_seconds": 1000, "most_prompts": 1000}


class Submitting(Tree):
    """A tree whose snakemake also finds the executor, which is not installed beside it."""

    timeout = 1200

    def environment(self) -> dict[str, str]:
        own = super().environment()
        return {**own, "PYTHONPATH": f"{own['PYTHONPATH']}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}

    def snakemake(self, *arguments: str, check: bool = True) -> str:
        """See `Tree.snakemake`; in a process of its own, as a fork has looked for executors where there were none."""
        command = [sys.executable, "-m", "snakemake", *arguments]
        how = {"cwd": self.path, "env": self.environment(), "timeout": self.timeout, "text": True}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how)
        assert not (check and done.returncode), done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def tree(slurm, tmp_path_factory) -> Tree:
    return Submitting(tmp_path_factory.mktemp("slurm"))


def test_a_failing_job_shows_its_log_and_the_rest_finishes(tree):
    tree.write_study(small(experiments=[*GOOD, BAD]), "study.yaml")
    output = tree.snakemake(*RUN, "--keep-going", *TARGET, check=False)
    metrics = tree.path / "results" / TINY["study"] / "metrics"
    assert {path.stem for path in metrics.glob("*.json")} == {experiment["id"] for experiment in GOOD}, output[-4000:]
    assert "error: 1000 passages of 1900 tokens were asked for" in output
    assert not (tree.path / "paper" / "main.pdf").exists()
    wait(lambda: not cluster.queue(), 300)


def test_the_study_comes_to_its_paper(tree):
    tree.write_study(small(experiments=GOOD), "study.yaml")
    output = tree.snakemake(*RUN, *TARGET)
    assert (tree.path / "paper" / "main.pdf").read_bytes().startswith(b"%PDF")
    assert "run_experiment" not in output.split("Job stats:")[1].split("total")[0]  # those were done
    jobs = cluster.jobs()
    assert "Partition=gpu" in jobs
    assert "Partition=cpu" in jobs
    assert "gres:gpu:1" in jobs


def test_ctrl_c_leaves_nothing_in_the_queue(tree):
    tree.write_study(small(experiments=[LONG]), "study.yaml")
    command = [sys.executable, "-m", "snakemake", *RUN, *TARGET]
    process = subprocess.Popen(
        command,
        cwd=tree.path,
        env=tree.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in the background
    )
    try:
        wait(lambda: cluster.queue() or process.poll() is not None, 300)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode != 0, output
    assert "run_experiment" in output
    wait(lambda: not cluster.queue(), 300)


def wait(condition, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.5)
