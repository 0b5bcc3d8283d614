import fcntl
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tree import Tree

STUDY = {
    "study": "stub",
    "baseline": "target",
    "models": {
        "target": {
            "source": {"kind": "random", "architecture": "llama", "hidden_size": 8, "layers": 1, "heads": 2, "seed": 0}
        }
    },
    "data": {"prose": {"source": {"kind": "path", "path": "prose.txt"}, "reader": "text", "test_fraction": 0.5}},
    "drafts": {"draft": {"target": "target", "data": ["prose"]}},
    "sampling": {"greedy": {"temperature": 0}},
    "defaults": {
        "speed": {
            **{"data": "prose", "prompt_tokens": 8, "max_new_tokens": 8},
            **{"precision": 0.5, "budget_seconds": 1, "least_prompts": 2, "most_prompts": 2},
            **{"seed": 0, "verification": "token", "sampling": "greedy"},
        },
        "perplexity": {"data": "prose", "context": 8, "score": 4, "passages": 2, "seed": 0, "ratios": [0, 0.5]},
    },
    "experiments": [
        {"id": "plain", "kind": "speed"},
        {
            **{"id": "gamma{gamma}", "kind": "speed", "grid": {"gamma": [1, 4]}},
            "drafter": {"name": "draft_model", "model": "draft"},
            "schedule": {"name": "constant", "gamma": "{gamma}"},
        },
        {
            **{"id": "lookup", "kind": "speed", "drafter": {"name": "prompt_lookup"}},
            "schedule": {"name": "constant", "gamma": 4},
        },
        {
            "id": "ppl-{press}",
            "kind": "perplexity",
            "grid": {"press": ["knorm", "own_press"]},
            "press": {"name": "{press}"},
        },
    ],
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id) -> Path:
    """A folder with stub scripts and a press of our own, in which the study above has run. Not to be changed.

    Of several processes of pytest-xdist the first to ask makes it, and the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "paper/main.pdf").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            run_stub_study(folder)
    return folder


def run_stub_study(folder: Path) -> None:
    """The study above, in a new tree."""
    folder.mkdir()
    tree = Tree(folder)
    tree.stub_scripts()
    tree.write_study(STUDY)
    (tree.path / "prose.txt").write_text("Some prose.\n")
    (tree.path / "src/specpress/presses/own_press.py").write_text("class OwnPress:\n    pass\n")
    tree.edit(
        "src/specpress/study/registry.py",
        "PRESSES = {",
        'PRESSES = {\n    "own_press": "specpress.presses.own_press:OwnPress",',
    )
    tree.append("profiles/default/config.yaml", "scheduler: greedy\n")  # the other starts a solver before every job
    tree.snakemake("--cores", "2", "--quiet")


@pytest.fixture
def tree(finished, tmp_path) -> Tree:
    """A copy of the finished tree, times included."""
    copy = object.__new__(Tree)
    copy.path = Path(shutil.copytree(finished, tmp_path / "tree"))
    return copy


@pytest.fixture
def study() -> dict:
    """The study of the finished tree, to be changed and written back."""
    import copy

    return copy.deepcopy(STUDY)
