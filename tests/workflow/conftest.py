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
def finished(tmp_path_factory) -> Tree:
    """A tree with stub scripts and a press of our own, in which the study above has run. Not to be changed."""
    tree = Tree(tmp_path_factory.mktemp("finished"))
    tree.stub_scripts()
    tree.write_study(STUDY)
    (tree.path / "prose.txt").write_text("Some prose.\n")
    (tree.path / "src/specpress/presses/own_press.py").write_text("class OwnPress:\n    pass\n")
    tree.edit(
        "src/specpress/study/registry.py",
        "PRESSES = {",
        'PRESSES = {\n    "own_press": "specpress.presses.own_press:OwnPress",',
    )
    tree.snakemake("--cores", "2", "--quiet")
    return tree


@pytest.fixture
def tree(finished, tmp_path) -> Tree:
    """A copy of the finished tree, times included."""
    copy = object.__new__(Tree)
    copy.path = Path(shutil.copytree(finished.path, tmp_path / "tree"))
    return copy


@pytest.fixture
def study() -> dict:
    """The study of the finished tree, to be changed and written back."""
    import copy

    return copy.deepcopy(STUDY)
