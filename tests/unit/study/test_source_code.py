import inspect

import pytest

from specpress.study.registry import DRAFTERS, PRESSES, SCHEDULES, resolve
from specpress.study.source_code import class_annotations, class_parameters, sources


@pytest.fixture
def tree(tmp_path):
    """A package with imports of every form, and a script."""
    files = {
        "scripts/run.py": "import argparse\nfrom specpress.a import f\nfrom specpress import public\n",
        "src/specpress/__init__.py": "_PUBLIC = {'public': 'specpress.lazy'}\n",
        "src/specpress/study/registry.py": "import specpress.untouched\n",
        "src/specpress/a.py": (
            "import torch\nfrom specpress import b\nfrom specpress.study import registry\n"
            "def f():\n  import specpress.inside\n"
        ),
        "src/specpress/b.py": "from specpress.pack import One\n",
        "src/specpress/inside.py": "from . import a\n",
        "src/specpress/lazy.py": "",
        "src/specpress/untouched.py": "",
        "src/specpress/pack/__init__.py": "from .one import One\nfrom .two import Two\n",
        "src/specpress/made/__init__.py": "from specpress.untouched import x\ndef make(): ...\n",
        "src/specpress/pack/one.py": "from .base import Base\nclass One(Base):\n  def __init__(self, m, *, n=3): ...\n",
        "src/specpress/pack/two.py": "from .one import One as Two\n",
        "src/specpress/pack/base.py": (
            "from dataclasses import dataclass, field\nfrom typing import ClassVar\n\n@dataclass\nclass Base:\n"
            "    ratio: float = 0\n    kind: ClassVar[str] = ''\n    state: int = field(default=0, init=False)\n\n"
            "@dataclass\nclass Press(Base):\n    window: int = 3\n\n"
            "class Free:\n    def __init__(self, **options): ...\n\n"
            "class Plain(Press):\n    pass\n"
        ),
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


CLOSURE = [
    *["scripts/run.py", "src/specpress/a.py", "src/specpress/b.py", "src/specpress/inside.py", "src/specpress/lazy.py"],
    *["src/specpress/pack/base.py", "src/specpress/pack/one.py"],
]


def test_closure_follows_what_is_used_and_not_the_registry(tree):
    assert sources("scripts/run.py", root=tree) == CLOSURE


def test_modules_loaded_by_name_are_added_if_they_are_ours(tree):
    assert sources("scripts/run.py", "specpress.pack.two", "kvpress", root=tree) == [
        *CLOSURE,
        "src/specpress/pack/two.py",
    ]


def test_a_name_that_a_package_defines_itself_brings_the_whole_package(tree):
    (tree / "scripts/make.py").write_text("from specpress.made import make\n")
    assert sources("scripts/make.py", root=tree) == [
        *["scripts/make.py", "src/specpress/made/__init__.py", "src/specpress/untouched.py"],
    ]


def test_missing_script_is_left_for_the_workflow_to_report(tree):
    assert sources("scripts/none.py", root=tree) == ["scripts/none.py"]


@pytest.mark.parametrize(
    ("target", "parameters"),
    [
        ("specpress.pack.one:One", {"m": True, "n": False}),
        ("specpress.pack:One", {"m": True, "n": False}),
        ("specpress.pack:Two", {"m": True, "n": False}),
        ("specpress.pack.base:Press", {"ratio": False, "window": False}),
        ("specpress.pack.base:Plain", {"ratio": False, "window": False}),
        ("specpress.pack.base:Free", None),
        ("specpress.pack.base:Nobody", None),
        ("specpress.nowhere:Nobody", None),
    ],
)
def test_class_parameters(tree, target, parameters):
    assert class_parameters(target, tree) == parameters


@pytest.mark.parametrize(
    ("table", "name"),
    [(PRESSES, "snapkv"), (PRESSES, "adakv"), (DRAFTERS, "cascade"), (DRAFTERS, "draft_model"), (SCHEDULES, "aimd")],
)
def test_class_parameters_agree_with_python(table, name):
    parameters = inspect.signature(resolve(table, name, "class")).parameters.values()
    assert class_parameters(table[name]) == {p.name: p.default is inspect.Parameter.empty for p in parameters}


def test_annotations_of_parameters_are_those_of_the_source():
    assert class_annotations(PRESSES["snapkv"])["window_size"] == "int"
    assert class_annotations(DRAFTERS["cascade"]) | class_annotations(SCHEDULES["aimd"]) == {
        **{"intermediate_model": "nn.Module", "drafter": "Drafter", "gamma": "int", "rounds": "int"},
        **{"initial": "int", "floor": "int", "cap": "int | None", "increase": "int"},
    }
    assert class_annotations("specpress.nowhere:Nobody") == {}
