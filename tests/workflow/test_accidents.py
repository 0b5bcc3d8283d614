"""What befalls a machine: two runs, a wrong clock, no memory, folders that are none; and the paper made after it."""

import os
import subprocess
import sys

from test_reruns import ANALYSIS
from waiting import wait_for

OLD, AHEAD = 1_000_000_000, 2_000_000_000  # 2001 and 2033
WAIT = """import time
from pathlib import Path
Path("started").touch()
while not Path("go").exists():
    time.sleep(0.05)
"""
# What a job's Python reads before its script, which therefore stays the one that made the other results.
IN_JOBS = """import os, resource, sys, traceback
if "scripts/run_experiment.py" in sys.orig_argv:
    try:
        {}
    except MemoryError:  # after which Python would go on to the script
        traceback.print_exc()
        os._exit(1)
"""
KILLED = "os.kill(os.getpid(), 9)"
NO_MEMORY = "resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28)); bytearray(2**30)"


def before(tree, script: str, text: str) -> None:
    """Put `text` before a script's own, whose imports stay the job's sources."""
    path = tree.path / "scripts" / script
    path.write_text(text + path.read_text())


def made(tree) -> None:
    """The same command ends with the paper, and leaves nothing to do."""
    tree.snakemake("--quiet")
    assert (tree.path / "paper/main.pdf").is_file()
    assert len(list(tree.path.glob("results/stub/metrics/*.json"))) == 6
    assert tree.jobs() == set()


def test_second_run_in_a_folder_is_refused_and_the_first_goes_on(tree):
    before(tree, "run_experiment.py", WAIT)
    command = [sys.executable, "-m", "snakemake", "--quiet"]
    first = subprocess.Popen(
        command, cwd=tree.path, env=tree.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    try:
        wait_for((tree.path / "started").exists)
        assert f"already at work in this directory (process {first.pid})" in tree.recover().stderr
        assert "cannot be locked" in tree.snakemake("--quiet", check=False)
        assert first.poll() is None
    finally:
        (tree.path / "go").touch()
        status = first.wait()
    assert status == 0
    made(tree)


def test_edit_under_a_clock_that_was_set_back_is_seen(tree):
    edits = {
        "paper/sections/introduction.tex": "compile_paper",
        "paper/templates/numbers.tex.j2": "render_template numbers",
        "src/specpress/presses/own_press.py": "run_experiment ppl-own-press",
    }
    for file in edits:
        tree.append(file, "\n# edited\n")
        os.utime(tree.path / file, (OLD, OLD))
    assert set(edits.values()) <= tree.jobs()
    tree.append("prose.txt", "Edited.\n")
    os.utime(tree.path / "prose.txt", (OLD, OLD))
    assert "prepare_data prose" in tree.jobs()


def test_clock_set_back_fails_jobs_until_the_times_to_come_are_gone(tree, study):
    for path in [path for path in tree.path.rglob("*") if path.is_file() and ".snakemake" not in path.parts]:
        os.utime(path, (AHEAD, AHEAD))
    study["experiments"][2]["schedule"]["gamma"] = 3
    tree.write_study(study)
    assert "older modification time" in tree.snakemake("--quiet", check=False)
    done = tree.recover()
    assert "The clock was set back" in done.stdout, done.stderr
    assert tree.jobs() == {"run_experiment lookup"} | ANALYSIS
    made(tree)
    assert tree.recover().stdout == ""


def test_run_that_broke_off_before_the_clock_was_set_back_is_finished(tree, study):
    for path in [*tree.path.glob("results/stub/[aft]*/**/*"), tree.path / "paper/main.pdf"]:
        os.utime(path, (AHEAD, AHEAD))
    study["experiments"][2]["schedule"]["gamma"] = 3
    tree.write_study(study)
    tree.snakemake("results/stub/metrics/lookup.json", "--quiet")  # as far as it came
    assert tree.recover().returncode == 0
    assert tree.jobs() == ANALYSIS
    made(tree)


def test_job_without_memory_says_so_and_is_not_forgotten(tree, study):
    """Though its old result is gone, and the paper there."""
    study["experiments"][2]["schedule"]["gamma"] = 3
    tree.write_study(study)
    hook = tree.path / "src/sitecustomize.py"
    for fault, said, not_said in (
        (KILLED, "the system had no memory left", "MemoryError"),
        (NO_MEMORY, "MemoryError", "killed from outside"),
    ):
        hook.write_text(IN_JOBS.format(fault))
        out = tree.snakemake(check=False)
        assert said in out
        assert not_said not in out
    hook.unlink()
    assert tree.jobs() == {"run_experiment lookup"} | ANALYSIS
    made(tree)


def test_latex_error_is_named_with_its_file_and_line(tree):
    (tree.path / "bin/latexmk").unlink()  # the real one
    main = tree.path / "paper/main.tex"
    lines = ["\\documentclass{article}", "\\begin{document}", "Text.", "\\nonsense", "\\end{document}"]
    main.write_text("\n".join(lines))
    out = tree.snakemake("--quiet", "rules", check=False)
    assert "main.tex:4: Undefined control sequence" in out
    assert "its whole log is logs/stub/compile_paper.log" in out
    main.write_text("\n".join(lines).replace("\\nonsense", ""))
    made(tree)
    assert (tree.path / "paper/main.pdf").read_bytes().startswith(b"%PDF")


def test_folder_that_cannot_be_written_is_named_before_anything_runs(tree):
    name = "results"
    folder, aside = tree.path / name, tree.path / "aside"
    (tree.path / "paper/main.pdf").unlink()
    folder.rename(aside)
    folder.write_text("a file of mine")
    out = tree.snakemake(check=False)
    assert f"{name} is a file, and {name}/" in out
    assert "Traceback" not in out
    assert "rule run_experiment" not in out
    folder.unlink()
    folder.symlink_to("/nowhere/at/all")
    assert f"{name} is a link to /nowhere/at/all, which does not exist" in tree.snakemake(check=False)
    folder.unlink()
    aside.rename(folder)
    made(tree)
