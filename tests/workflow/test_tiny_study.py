"""The real workflow, from random models to a PDF, on the tiny study."""

import json
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator

import pytest
import yaml
from tree import ROOT, Tree
from warm import warm_python

from specpress.provenance.archive import open_results, pack
from specpress.provenance.explain import explanation
from specpress.provenance.numbers import read_numbers
from specpress.study.load import load_study

pytestmark = pytest.mark.end_to_end

TINY = load_study(yaml.safe_load((ROOT / "tests" / "study.yaml").read_text()))
CONFIG = ("--configfile", "tests/study.yaml")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Iterator[Tree]:
    """A copy of the working tree in which the tiny study has run."""
    tree = Tree(tmp_path_factory.mktemp("tiny"))
    with warm_python(tree):  # for the figures and tables of the archive as well
        tree.snakemake("--cores", "1", *CONFIG)
        yield tree


def pages(pdf: bytes) -> int:
    """Pages of a PDF: page objects, also those in compressed object streams."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    inflated = []
    for stream in streams:
        try:
            inflated.append(zlib.decompress(stream))
        except zlib.error:
            continue
    return sum(len(re.findall(rb"/Type\s*/Page\b", part)) for part in [pdf, *inflated])


def test_paper_has_pages(built):
    pdf = (built.path / "paper" / "main.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert pages(pdf) >= 3


@pytest.mark.parametrize("experiment", TINY.experiments)
def test_experiment_has_metrics_of_its_spec(built, experiment):
    metrics = json.loads((built.path / f"results/tiny/metrics/{experiment}.json").read_text())
    assert metrics["id"] == experiment
    assert metrics["spec"] == TINY.experiments[experiment]


def test_draft_was_trained(built):
    metrics = json.loads((built.path / "results/tiny/drafts/draft/metrics.json").read_text())
    losses = [point["loss"] for point in metrics["loss"]]
    assert losses[-1] < losses[0]


def test_nothing_is_left_to_do(built):
    assert built.jobs(*CONFIG) == set()
    assert "Nothing to be done" in built.snakemake("-n", *CONFIG)


def test_every_job_left_a_log(built):
    logs = {path.parent.name for path in (built.path / "logs/tiny").glob("*/*.log")}
    assert {"prepare_model", "prepare_data", "train_draft", "run_experiment", "plot_figure"} <= logs


def test_editing_one_gamma_names_its_experiment(built, tmp_path):
    study = yaml.safe_load((ROOT / "tests" / "study.yaml").read_text())
    gammas = study["experiments"][1]["grid"]["gamma"]
    study["experiments"][1]["grid"]["gamma"] = [gammas[0], gammas[1] + 1]
    built.write_study(study, "edited.yaml")
    experiments = {job for job in built.jobs("--configfile", "edited.yaml") if job.startswith("run_experiment")}
    assert experiments == {
        f"run_experiment speculative-gamma{gammas[1] + 1}-{sampling}" for sampling in ("sampled", "greedy")
    }


def test_report_and_graphs_are_written(built):
    built.snakemake("--report", "report.html", *CONFIG)
    assert (built.path / "report.html").stat().st_size > 100_000
    assert "digraph" in built.snakemake("--forceall", "--rulegraph", *CONFIG)


def test_every_number_of_the_paper_is_traced(built):
    stored = open_results(built.path / "results/tiny")
    numbers = read_numbers(stored)
    printed = re.findall(r"^.defineresult{(.+?)}{(.+?)}", stored.text("numbers.tex"), re.MULTILINE)
    assert {f"{experiment}/{metric.partition('/')[0]}" for experiment, metric in printed} <= set(numbers)
    for number in numbers.values():
        text = "\n".join(explanation(number, stored))
        assert "  commit " in text
        assert "  spec\n" in text


def test_archive_and_rebuild_give_the_same_paper(built):
    pack(built.path, "tests/study.yaml", built.path / "archives/tiny.tar")
    command = [sys.executable, "workflow/paper_from.py", "archives/tiny.tar"]
    done = subprocess.run(command, cwd=built.path, env=built.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "archives/tiny/paper/main.pdf: the archived paper, byte for byte" in done.stdout
    assert "compile_paper" in done.stderr
    assert not re.search("run_experiment|train_draft|prepare_|fetch_", done.stderr)
