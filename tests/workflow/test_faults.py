"""Wrong input, failing and killed jobs: what the user is told, and how the next run goes on."""

import os
import platform
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest
from waiting import wait_for

SLEEPER = "import time\nfrom pathlib import Path\nPath('started').touch()\ntime.sleep(600)\n"


def jobs_alive(tree) -> list[psutil.Process]:
    """The experiment jobs that run in this tree."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[1:2] == ["scripts/run_experiment.py"] and process.cwd() == str(tree.path):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def running(tree, study):
    """A snakemake at work in the tree, in the middle of an experiment that does not end."""
    (tree.path / "scripts/run_experiment.py").write_text(SLEEPER)
    command = [sys.executable, "-m", "snakemake", "results/stub/metrics/plain.json", "--quiet"]
    process = subprocess.Popen(
        command, cwd=tree.path, env=tree.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for((tree.path / "started").exists)
    yield process
    for left in [process, *jobs_alive(tree)]:
        with suppress(psutil.NoSuchProcess):  # one that was ended may be going just now
            left.kill()
    process.wait()


def test_wrong_study_is_refused_with_the_path_and_the_known_names(tree, study):
    study["experiments"][1]["drafter"]["model"] = "drfat"
    study["experiments"][2]["dta"] = "prose"
    tree.write_study(study)
    text = tree.snakemake("-n", check=False)
    assert "experiments[1].drafter.model: unknown model or draft 'drfat'; known: draft, target; did you mean" in text
    assert "experiments[2].dta: unknown key" in text
    assert "Traceback" not in text
    assert len(text.splitlines()) < 12


def test_text_that_is_not_there_is_refused_though_an_earlier_run_had_one(tree):
    (tree.path / "prose.txt").unlink()
    text = tree.snakemake("-n", check=False)
    assert f"data.prose.source.path: prose.txt does not exist (a relative path starts at {tree.path})" in text
    assert "Nothing to be done" not in text


def make(tree, *arguments):
    """`make` as a user types it, though these tests were started by a make with variables of its own."""
    own = {
        name: value for name, value in os.environ.items() if name != "VENV" and not name.startswith(("MAKE", "MFLAGS"))
    }
    streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    return subprocess.run(["make", *arguments], cwd=tree.path, env=own, **streams)


def test_study_file_that_is_not_there_is_named(tree):
    done = make(tree, "paper", "STUDY=nowhere.yaml")
    assert "there is no file nowhere.yaml" in done.stderr
    assert not (tree.path / ".venv").exists()


def test_wrong_python_is_refused_before_anything_is_installed(tree):
    old = tree.path / "old-python"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9); $2"\n')
    old.chmod(0o755)
    for program, said in (
        ("./old-python", "needs Python 3.11 or later; ./old-python is 3.9"),
        ("none", "no program none"),
    ):
        done = make(tree, "programs", f"PYTHON={program}")
        assert done.returncode != 0
        assert said in done.stderr
        assert done.stdout == ""


def test_study_given_with_configfile_stands_alone(tree, study):
    tree.write_study({**study, "study": "other", "experiments": study["experiments"][:1]}, "other.yaml")
    experiments = {job for job in tree.jobs("--configfile", "other.yaml") if job.startswith("run_experiment")}
    assert experiments == {"run_experiment plain"}


def test_studies_keep_their_results_apart(tree, study):
    tree.write_study({**study, "study": "other"}, "other.yaml")
    tree.snakemake("--quiet", "--configfile", "other.yaml")
    assert tree.jobs("--configfile", "other.yaml") == set()
    assert tree.jobs() == {"copy_paper"}


def test_failed_job_shows_its_log_and_where_it_is(tree):
    (tree.path / "scripts/run_experiment.py").write_text("raise SystemExit('error: the reason')\n")
    text = tree.snakemake("results/stub/metrics/plain.json", check=False)
    assert "logs/stub/run_experiment/plain.log" in text
    assert "error: the reason" in text


def test_an_experiment_that_fails_does_not_end_the_others(tree):
    """A night is not lost for one of them; the same command does what is left."""
    script = tree.path / "scripts/run_experiment.py"
    whole = script.read_text()
    script.write_text(f"import sys\nif 'plain.json' in ' '.join(sys.argv):\n    sys.exit('error: the reason')\n{whole}")
    text = tree.snakemake(check=False)
    assert "error: the reason" in text
    there = {path.stem for path in tree.path.glob("results/stub/metrics/*.json")}
    assert len(there) == 5
    assert "plain" not in there
    script.write_text(whole)
    assert "run_experiment plain" in tree.jobs()


def test_run_tells_what_it_measures_and_how_much_is_left(tree):
    tree.append("src/specpress/drafters/prompt_lookup.py", "# faster\n")
    text = tree.snakemake()
    assert ">> experiment 1 of 1: lookup ...\n" in text
    assert ">> experiment 1 of 1: lookup: done in " in text


def test_killed_run_is_recovered_and_its_job_runs_again(tree, running):
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert jobs_alive(tree), "the job outlives its snakemake"
    assert "--unlock" in tree.snakemake("results/stub/metrics/plain.json", "--quiet", check=False)

    done = tree.recover()
    assert done.returncode == 0, done.stderr
    assert "an interrupted run left behind" in done.stdout
    assert "Removing the lock" in done.stdout
    wait_for(lambda: not jobs_alive(tree))
    assert "run_experiment plain" in tree.jobs()
    (tree.path / "scripts/run_experiment.py").write_text("open('results/stub/metrics/plain.json', 'w').close()\n")
    tree.snakemake("results/stub/metrics/plain.json", "--quiet")


def test_a_lock_of_another_machine_is_left_alone(tree, running):
    """Where several share a file system, what is at work on one is seen by no other."""
    running.send_signal(signal.SIGKILL)
    running.wait()
    runs_on = tree.path / ".snakemake/runs-on"
    assert runs_on.read_text() == f"{platform.node()}\n"
    runs_on.write_text("elsewhere\n")
    done = tree.recover()
    assert done.returncode == 1
    assert "since it ran on elsewhere. If it still works there, wait for it" in done.stderr
    runs_on.unlink()
    assert tree.recover().returncode == 0


def test_a_training_that_fails_has_failed_though_its_output_goes_through_a_pipe(tree):
    (tree.path / "scripts/train_draft.py").write_text("raise SystemExit('error: no such text')\n")
    text = tree.snakemake("results/stub/drafts/draft/manifest.json", "--quiet", check=False)
    assert "error: no such text" in text
    assert "missing" not in text.lower()


def test_output_of_a_killed_job_is_not_trusted(tree, running):
    """Whatever it has written: the script is the one that was running, so that only the kill is a reason to rerun."""
    (tree.path / "results/stub/metrics").mkdir(exist_ok=True)
    (tree.path / "results/stub/metrics/plain.json").write_text("half")
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert tree.recover().returncode == 0
    assert "run_experiment plain" in tree.jobs("results/stub/metrics/plain.json")


def test_run_at_work_is_left_alone(tree, running):
    done = tree.recover()
    assert done.returncode != 0
    assert f"already at work in this directory (process {running.pid})" in done.stderr
    assert running.poll() is None
    assert jobs_alive(tree)


def test_nothing_to_recover(tree):
    done = tree.recover()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_clean_asks_nothing_and_keeps_downloads(tree):
    (tree.path / "resources/downloads").mkdir()
    (tree.path / "resources/downloads/some.whl").touch()
    assert make(tree, "clean").returncode == 0
    assert not any((tree.path / name).exists() for name in ("results", "logs", "paper/main.pdf"))
    assert (tree.path / "resources/downloads/some.whl").exists()


def test_bare_snakemake_uses_the_default_profile(tree):
    """Without --cores, which only the profile gives."""
    os.remove(tree.path / "paper/main.pdf")
    tree.snakemake("--quiet")
    assert (tree.path / "paper/main.pdf").exists()
