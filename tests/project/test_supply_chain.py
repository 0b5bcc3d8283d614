"""What is installed is pinned by its content, and nothing here runs what it has only read."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("src", "scripts", "workflow", "benchmarks")
# Modules whose purpose is to run or rebuild whatever they read.
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
LOADERS = {"torch.load", "torch.hub.load", "torch.jit.load", "eval", "exec"}
FLAGS = {"trust_remote_code", "shell", "allow_pickle", "weights_only"}


def given(node: ast.AST) -> list[tuple[str | None, ast.expr]]:
    """The arguments that a call names, or the keys and values of a dict, which may become arguments."""
    if isinstance(node, ast.Call):
        return [(keyword.arg, keyword.value) for keyword in node.keywords]
    if isinstance(node, ast.Dict):
        return [(getattr(key, "value", None), value) for key, value in zip(node.keys, node.values, strict=True)]
    return []


def dangers(text: str) -> Iterator[str]:
    """What a Python text does that a file or an argument could turn against its user, as "line: what"."""
    tree = ast.parse(text)
    names = {}  # a local name and what it was imported as
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            for alias in node.names:
                full = f"{module}.{alias.name}" if module else alias.name
                names[alias.asname or alias.name.split(".")[0]] = full if alias.asname or module else full.split(".")[0]
                if full.split(".")[0] in UNPICKLERS:
                    yield f"{node.lineno}: import {full}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            head, _, rest = ast.unparse(node).partition(".")
            full = ".".join(filter(None, [names.get(head, head), rest]))
            if full in SHELLS | LOADERS and isinstance(node.ctx, ast.Load):
                yield f"{node.lineno}: {full}"
        for name, value in given(node):
            safe = name == "weights_only"  # the one that is dangerous when it is false
            if name in FLAGS and not (isinstance(value, ast.Constant) and value.value is safe):
                yield f"{node.lineno}: {name}={ast.unparse(value)}"


def python_files() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def test_the_files_are_found():
    assert {path.relative_to(ROOT).parts[0] for path in python_files()} == set(FOLDERS)


@pytest.mark.parametrize("path", python_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_runs_what_it_has_only_read(path):
    assert list(dangers(path.read_text())) == []


@pytest.mark.parametrize(
    ("text", "danger"),
    [
        ("import torch\ntorch.load('x')", "2: torch.load"),
        ("import torch as t\nmodel = t.load('x')", "2: torch.load"),
        ("from torch import load\nload('x')", "2: torch.load"),
        ("import pickle", "1: import pickle"),
        ("from dill import loads", "1: import dill.loads"),
        ("AutoModel.from_pretrained(path, trust_remote_code=True)", "1: trust_remote_code=True"),
        ("AutoModel.from_pretrained(path, trust_remote_code=flag)", "1: trust_remote_code=flag"),
        ("load(**{'trust_remote_code': True})", "1: trust_remote_code=True"),
        ("import subprocess\nsubprocess.run(text, shell=True)", "2: shell=True"),
        ("import os\nos.system(text)", "2: os.system"),
        ("import numpy\nnumpy.load(path, allow_pickle=True)", "2: allow_pickle=True"),
        ("load(path, weights_only=False)", "1: weights_only=False"),
        ("eval(text)", "1: eval"),
    ],
)
def test_each_danger_is_seen(text, danger):
    assert list(dangers(text)) == [danger]


@pytest.mark.parametrize("text", ["model.eval()", "load(path, weights_only=True)", "run(command, shell=False)"])
def test_what_is_harmless_is_not_a_danger(text):
    assert list(dangers(text)) == []


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(file: str) -> dict[str, tuple[str, list[str]]]:
    """The packages of a lock: version and hashes by name."""
    text = re.sub(r"^#.*\n", "", (ROOT / file).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = {}
    for line in filter(None, text.splitlines()):
        pin, *hashes = line.split()
        name, version = pin.split("==")
        found[normal(name)] = version, [part.removeprefix("--hash=sha256:") for part in hashes]
    return found


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-slurm.lock"])
def test_every_package_is_pinned_by_the_hashes_of_its_files(lock):
    packages = locked(lock)
    assert packages
    for name, (_, hashes) in packages.items():
        assert hashes, f"{name} has no hash in {lock}"
        assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in hashes)


def test_torch_alone_has_no_hash():
    assert set(locked("requirements-torch.lock")) == {"torch"}
    assert "torch" not in locked("requirements.lock")


def test_the_locks_hold_what_is_required():
    lines = [line for line in (ROOT / "requirements.in").read_text().splitlines() if line and not line.startswith("#")]
    required = re.findall(r"^([A-Za-z][\w.-]*)(?:==([\w.]+?)(\.\*)?)?$", "\n".join(lines), re.MULTILINE)
    assert len(required) == len(lines)
    packages = locked("requirements.lock") | locked("requirements-torch.lock")
    for name, version, any_patch in required:
        held = packages[normal(name)][0]
        assert held.startswith(f"{version}.") if any_patch else version in ("", held), (name, version, held)


def test_setup_takes_no_file_without_its_hash():
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"pip install.*requirements\.lock", makefile) == [
        "pip install --quiet --no-compile --no-deps --require-hashes --requirement requirements.lock"
    ]
