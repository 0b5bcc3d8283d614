"""A checkout that was copied, moved, renamed or entered from a subfolder: its own code runs, or one line says why."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WHERE = "import sys, specpress\nopen(sys.argv[-1], 'w').write(specpress.__file__)\n"


def snakemake(tree, *arguments, folder=".", **environment):
    """Snakemake as it runs from a virtual environment that leads to the library of this checkout, not of the tree."""
    own = {**tree.environment(), "PYTHONPATH": str(ROOT / "src"), **environment}
    command = [sys.executable, "-m", "snakemake", *arguments]
    streams = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.run(command, cwd=tree.path / folder, env=own, **streams)


def make(tree, *arguments, **environment):
    own = {
        k: v for k, v in os.environ.items() if k not in ("VENV", "PYTHONPATH") and not k.startswith(("MAKE", "MFLAGS"))
    }
    streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    return subprocess.run(["make", *arguments], cwd=tree.path, env={**own, **environment}, **streams)


@pytest.fixture
def environment(tree):
    """A virtual environment of the tree that is said to be complete; the study's check is no stub."""
    shutil.copy(ROOT / "scripts/check_study.py", tree.path / "scripts")
    for name in ("requirements.lock", "requirements-torch.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tree.path)
    (tree.path / ".venv/bin").mkdir(parents=True)
    (tree.path / ".venv/bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tree.path / ".venv/bin/python").chmod(0o755)
    command = f"command = /usr/bin/python3 -m venv {tree.path}/.venv\n"
    (tree.path / ".venv/pyvenv.cfg").write_text(command)
    (tree.path / ".venv/.installed").touch()
    return tree.path / ".venv"


def test_jobs_of_a_copied_checkout_run_its_own_library(tree):
    (tree.path / "scripts/run_experiment.py").write_text(WHERE)
    done = snakemake(tree, "results/stub/metrics/plain.json", "--quiet")
    assert done.returncode == 0, done.stdout
    ran = (tree.path / "results/stub/metrics/plain.json").read_text()
    assert ran == str(tree.path / "src/specpress/__init__.py")


def test_a_library_of_another_place_that_is_loaded_already_is_refused(tree):
    (tree.path / "sitecustomize.py").write_text("import specpress\n")
    path = os.pathsep.join([str(tree.path), str(ROOT / "src")])
    done = snakemake(tree, "-n", PYTHONPATH=path)
    assert done.returncode != 0
    assert f"is that of another place, {ROOT / 'src/specpress'}: run `make setup` in {tree.path}" in done.stdout
    assert "Traceback" not in done.stdout


def test_the_library_of_make_is_that_of_the_checkout(tree):
    done = make(tree, "--eval", "show: ; @echo $$PYTHONPATH", "show", PYTHONPATH="/elsewhere")
    assert done.stdout.strip() == f"{tree.path}/src:/elsewhere"


def test_an_environment_in_its_place_is_left_alone(tree, environment):
    assert "rm -rf" not in make(tree, "-n", "setup").stdout


@pytest.mark.parametrize("how", ["copied", "moved", "without its Python"])
def test_a_misplaced_environment_is_made_anew(tree, environment, tmp_path, how):
    if how == "copied":
        shutil.copytree(tree.path / ".venv", tmp_path / "old")
        (environment / "pyvenv.cfg").write_text(f"command = python -m venv --clear {tmp_path / 'old'}\n")
    elif how == "moved":
        (environment / "pyvenv.cfg").write_text("command = python -m venv /nowhere/.venv\n")
    else:
        (environment / "bin/python").unlink()
        (environment / "bin/python").symlink_to("/nowhere/python3")
    done = make(tree, "-n", "setup")
    said = ".venv has no Python that runs" if how.startswith("without") else ".venv was made in /"
    assert said in done.stdout
    assert "it is made anew" in done.stdout
    assert done.stdout.index("rm -rf .venv") < done.stdout.index("-m venv --clear .venv")


def test_a_subfolder_is_no_place_to_start_from(tree):
    (tree.path / "sub").mkdir()
    done = snakemake(tree, "-n", "-s", "../Snakefile", folder="sub")
    assert done.returncode != 0
    assert f"snakemake works in the folder of the project, not in {tree.path}/sub: cd {tree.path}" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_study_file_may_have_a_space_in_its_name(tree, study, environment):
    tree.write_study({**study, "study": "other"}, "config/my study.yaml")
    done = make(tree, "-o", "setup", "check", "STUDY=config/my study.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        '--configfile "config/my study.yaml"'
        in make(tree, "-n", "-o", "setup", "paper", "STUDY=config/my study.yaml").stdout
    )
    assert "run_experiment" in tree.snakemake("-n", "--configfile", "config/my study.yaml")
    assert "there is no file config/no study.yaml" in make(tree, "paper", "STUDY=config/no study.yaml").stderr


@pytest.mark.parametrize("cores", ["0", "-1", "many", "2 3"])
def test_cores_are_a_number_or_all(tree, cores):
    done = make(tree, "-n", "-o", "setup", "paper", f"CORES={cores}")
    assert f'CORES is a number of cores from 1 on, or all; not "{cores}"' in done.stderr


@pytest.mark.parametrize("folder", ["", "my venv"])
def test_a_virtual_environment_is_in_one_folder(tree, folder):
    done = make(tree, "-n", "-o", "setup", "paper", f"VENV={folder}")
    assert f'one without a space; not "{folder}"' in done.stderr


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"study: a\n\tb: 1\n", "line 2, column 1: "),
        ("study: Café\n".encode("latin-1"), "line 1: not UTF-8 (byte 0xe9)"),
        (b"study: a\nstudy: b\n", "line 2, column 1: the key 'study' is given twice, here and in line 1"),
    ],
)
def test_a_file_that_is_no_study_is_refused_by_make_and_by_snakemake(tree, environment, data, said):
    (tree.path / "config/config.yaml").write_bytes(data)
    done = make(tree, "-o", "setup", "check")
    assert done.returncode == 2
    assert f"config/config.yaml is not YAML: {said}" in done.stderr
    assert "Traceback" not in done.stderr
    bare = tree.snakemake("-n", check=False)
    assert bare.splitlines()[-1].startswith(f"Error: config/config.yaml is not YAML: {said}")
    assert "WorkflowError" not in bare
    assert "Traceback" not in bare


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"study: a\n\tb: 1\n", "is not YAML: line 2, column 1: "),
        ("study: a\ntitle: Café\n".encode("latin-1"), "is not YAML: line 2: not UTF-8 (byte 0xe9)"),
        (b"study: a\nstudy: b\n", "is not YAML: line 2, column 1: the key 'study' is given twice"),
        (b"study: 2026-13-45\n", "is not YAML: line 1, column 8: month must be"),
        (b"", "is no study: it holds no keys"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_study_is_one_line_though_snakemake_reads_it_first(tree, data, said):
    if data is not None:
        (tree.path / "config/mine.txt").write_bytes(data)
    with pytest.raises(AssertionError, match="exited with 1:") as given:
        tree.snakemake("-n", "--configfile", "config/mine.txt", "--cores", "1")
    assert f"Error: config/mine.txt {said}" in str(given.value).splitlines()[-1]
    assert "Traceback" not in str(given.value)


def test_caches_find_a_place_without_a_home(tree):
    show = ("--eval", "show: ; @echo $$XDG_CACHE_HOME", "show")
    assert make(tree, *show, HOME="/proc/nowhere").stdout.strip() == f"{tree.path}/.snakemake/cache"
    assert make(tree, *show, HOME=str(tree.path)).stdout.strip() == os.environ.get("XDG_CACHE_HOME", "")


def test_snakemake_alone_names_the_home_that_it_cannot_write_to(tree):
    done = snakemake(tree, "-n", HOME="/proc/nowhere", XDG_CACHE_HOME="")
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1].startswith("Error: caches cannot be kept in /proc/nowhere/.cache/snakemake (No")
    assert "Traceback" not in done.stdout


def test_a_folder_in_place_of_a_text_is_refused(tree, study):
    (tree.path / "texts").mkdir()
    study["data"]["prose"]["source"]["path"] = "texts"
    tree.write_study(study)
    text = tree.snakemake("-n", check=False)
    assert "data.prose.source.path: texts is a folder; a data set is read from one file" in text
