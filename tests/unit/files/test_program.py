"""How programs end: statuses and lines, for the command and the scripts alike."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from specpress.files import program
from specpress.files.program import run_program

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))


def ended(capsys, main):
    status = run_program(main, "name")
    return status, capsys.readouterr().err


def _raise(error):
    raise error


def test_what_the_user_can_mend_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(program, "PACKAGE", Path(__file__).parent)
    for error in (ValueError("this: do that"), FileNotFoundError("there is no x: make it")):
        assert ended(capsys, lambda error=error: _raise(error)) == (2, f"name: {error}\n")
    assert ended(capsys, lambda: None) == (0, "")
    assert ended(capsys, lambda: 3) == (3, "")


def test_a_lack_of_memory_is_one_line(capsys):
    def of_torch():
        import torch

        torch.empty(2**60, dtype=torch.uint8)

    kinds = (MemoryError(), type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory.\nTried"))
    for main in (of_torch, *(lambda error=error: _raise(error) for error in kinds)):
        status, said = ended(capsys, main)
        assert status == 2
        assert said.startswith("name: there was not enough memory: end other programs, or take a smaller model")
        assert said.count("\n") == 1


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), RuntimeError("x")])
def test_a_bug_keeps_its_traceback_and_says_so(capsys, error):
    status, said = ended(capsys, lambda: _raise(error))
    assert status == 1
    assert said.startswith("Traceback")
    assert said.splitlines()[-1] == "name: this is a bug of specpress: please report it, with the lines above"


def test_a_value_error_of_a_library_was_not_meant_for_the_user(capsys):
    status, said = ended(capsys, lambda: json.loads("{"))
    assert status == 1
    assert "Traceback" in said


def test_ctrl_c_ends_with_one_line(capsys):
    assert ended(capsys, lambda: _raise(KeyboardInterrupt())) == (130, "name: interrupted\n")


def run_in_bash(body, redirection, **environment):
    """A program of that body, its output led where `redirection` says."""
    script = (
        f"import sys; from specpress.files.program import run_program\nsys.exit(run_program(lambda: {body}, 'name'))"
    )
    own = {"PYTHONPATH": str(ROOT / "src"), "SCRIPT": script, "PYTHONUNBUFFERED": ""}
    command = f"'{sys.executable}' -c \"$SCRIPT\" {redirection}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env={**os.environ, **own, **environment}
    )


HELP = "__import__('argparse').ArgumentParser().parse_args(['--help'])"


@pytest.mark.parametrize(
    "body", ["[print('x' * 99, flush=True) for _ in range(9999)] and 0", "print('x' * 99)", "print('x' * 99999)", HELP]
)
def test_a_reader_that_has_seen_enough_is_no_error(body):
    done = run_in_bash(body, "| (exec <&-; sleep 0.3)" if "range" not in body else "| head -1")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("body", ["print('x')", "print('x', flush=True)", HELP])
def test_output_that_cannot_be_written_is_one_line(body):
    done = run_in_bash(body, "> /dev/full")
    assert (done.returncode, done.stderr) == (2, "name: [Errno 28] No space left on device\n")


def test_closed_output_hides_no_error():
    failing = "print('x') or open('/nowhere/x')"
    done = run_in_bash(failing, ">&-")
    assert (done.returncode, done.stderr) == (2, "name: [Errno 2] No such file or directory: '/nowhere/x'\n")
    assert run_in_bash("print('x')", ">&-").returncode == 0


def test_text_that_a_terminal_has_no_characters_for_is_printed_all_the_same():
    done = run_in_bash("print('a' + chr(0x6BF))", "", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stdout) == (0, "a\\u06bf\n")
    done = run_in_bash("print('a' + chr(0xDCFF))", "| od -An -tx1", PYTHONIOENCODING="utf-8")
    assert done.stdout.split() == ["61", "ff", "0a"]


def test_every_script_ends_so():
    for script in SCRIPTS:
        text = script.read_text()
        warm = ("sys.exit(run_warm(main, *MODELS))", "sys.exit(run_warm(main, *PAPER))")
        ends = ("sys.exit(run_program(main))", *warm, "figure_command(")
        assert any(end in text for end in ends), script.name
        assert "sys.exit(f" not in text, script.name


def run(script, *arguments, **environment):
    own = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, env=own)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("plan_study.py", ["--study", "nowhere.yaml"], "nowhere.yaml"),
        ("collect_results.py", ["--metrics", "nowhere.json", *(f"--{x}=x" for x in ("observations", "summary"))], "x"),
        ("fetch_wheel.py", ["--source", "{}", "--output", "x"], "source"),
    ],
)
def test_scripts_say_what_is_wrong_in_one_line(name, arguments, said, tmp_path):
    more = ["--environment", "x"] if name.startswith("collect") else []
    done = run(ROOT / "scripts" / name, *arguments, *more)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_a_script_of_one_checkout_does_not_run_with_the_library_of_another(tmp_path):
    """A checkout copied with its virtual environment, which leads to the old place."""
    copy = tmp_path / "copy"
    for part in ("scripts", "src"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    done = run(copy / "scripts" / "plan_study.py", "--study", str(ROOT / "tests" / "study.yaml"))
    assert done.returncode == 2
    assert "would run with the library of another place" in done.stderr
    assert f"Run `make setup` in {copy}, or set PYTHONPATH={copy / 'src'}" in done.stderr
    right = run(copy / "scripts" / "plan_study.py", "--study", "nowhere.yaml", PYTHONPATH=str(copy / "src"))
    assert "nowhere.yaml" in right.stderr


def test_an_interrupted_script_ends_with_130(tmp_path):
    script = "import os, signal, sys; from specpress.files.program import run_program\n"
    script += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # where it is inherited as ignored
    script += f"sys.exit(run_program(lambda: os.kill(os.getpid(), {int(signal.SIGINT)}) or input()))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")
