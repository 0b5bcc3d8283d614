"""A figure and a text that forks make are the bytes that their scripts make."""

import os
import subprocess
import sys

import pytest
import synthetic
from tree import ROOT

from specpress.analysis.tables import summary

PROBE = """
import os, sys
from specpress.files import warm
print(warm._is_fork, len(os.listdir("/proc/self/task")), sorted(os.environ.keys() & warm.FORKABLE), sys.argv[1:])
"""
STARTER = str(ROOT / "scripts/run_script.py")
FIGURE = ["scripts/plot_speedup_gamma.py", "--style", str(ROOT / "paper/style.mplstyle")]
TEXT = ["scripts/render_template.py", "--template", str(ROOT / "paper/templates/speed.tex.j2")]
FILES = ("figure.pdf", "figure.svg", "text.tex")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folders in which forks and scripts have worked, and what each said of itself."""
    read = tmp_path_factory.mktemp("read")
    metrics = [item | {"file": "x.json"} for item in synthetic.tiny_study()]
    summary(metrics, synthetic.MODELS).to_csv(read / "summary.csv", index=False)
    (read / "environment.json").write_text('{"common": {}, "different": {}, "mixed": [], "models": {}, "data": {}}')
    (read / "probe.py").write_text(PROBE)
    table = ["--summary", str(read / "summary.csv")]
    known = {"original": "original.yaml", "sources": "sources.yaml", "captions": "captions.yaml"}
    more = [word for name, file in known.items() for word in (f"--{name}", str(ROOT / "paper" / file))]
    more += ["--environment", str(read / "environment.json")]
    commands = [
        [str(read / "probe.py"), "some", "words"],
        [str(ROOT / FIGURE[0]), *FIGURE[1:], *table, "--output-pdf", FILES[0], "--output-svg", FILES[1]],
        [str(ROOT / TEXT[0]), *TEXT[1:], *table, *more, "--output", FILES[2]],
    ]
    snakemake = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = {}
    try:
        for how in ("1", "0"):
            folder = tmp_path_factory.mktemp("warm" if how == "1" else "cold")
            (folder / ".snakemake").mkdir()
            started = {"SPECPRESS_RUN": str(snakemake.pid), "SPECPRESS_WARM": how, "PYTHONPATH": str(ROOT / "src")}
            own = {"cwd": folder, "env": {**os.environ, **started}, "capture_output": True, "text": True}
            ends = [subprocess.run([sys.executable, STARTER, *command], **own) for command in commands]
            assert not any(end.returncode for end in ends), ends
            found[how] = folder, ends[0].stdout
    finally:
        snakemake.communicate(b"\n")
    return found


def test_they_are_forks_without_the_threads_that_a_library_starts(made):
    assert made["1"][1] == "True 1 [] ['some', 'words']\n"
    assert made["0"][1].startswith("False ")


@pytest.mark.parametrize("file", FILES)
def test_what_they_make_is_the_same(made, file):
    warm, cold = ((made[how][0] / file).read_bytes() for how in ("1", "0"))
    assert warm == cold
    assert len(warm) > 100


def test_a_script_that_fails_ends_as_ever():
    command = [sys.executable, STARTER, str(ROOT / FIGURE[0]), "--summary", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "plot_speedup_gamma.py: error: the following arguments are required: --style" in done.stderr
