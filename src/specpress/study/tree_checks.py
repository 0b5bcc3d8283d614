"""What is wrong with how an experiment proposes and verifies trees, beyond the schema."""

from collections.abc import Iterator
from typing import Any

from specpress.study.expansion import branches
from specpress.study.schema import path_of

OF_TREES = ("traversal", "recursive")  # what verifies trees


def tree_problems(body: Any, path: str) -> Iterator[str]:
    """Trees where only paths go, and the other way round, in a method whose place in the study is `path`."""
    if not isinstance(body, dict) or not isinstance(drafter := body.get("drafter"), dict):
        return
    verification, schedule, batch = body.get("verification", "token"), body.get("schedule"), body.get("batch")
    name = drafter.get("name")
    if branches(drafter):
        if verification not in OF_TREES:
            yield (
                f"{path_of(path, ['verification'])}: {name!r} proposes trees, which {verification!r} cannot verify: "
                f"use {' or '.join(OF_TREES)}"
            )
        if isinstance(batch, int) and batch > 1:
            where = path_of(path, ["batch"])
            yield f"{where}: trees are verified for one sequence at a time: remove it, or take a drafter of paths"
    elif isinstance(schedule, dict) and schedule.get("name") == "optimal_tree":
        where = path_of(path, ["schedule", "name"])
        yield f"{where}: optimal_tree sizes trees; {name!r} proposes paths: use optimal"


def mixture_problems(part: dict, path: str) -> Iterator[str]:
    """Mixtures inside a drafter whose place in the study is `path`."""
    inner = part.get("drafters")
    for index, drafter in enumerate(inner if isinstance(inner, list) else ()):
        if isinstance(drafter, dict) and drafter.get("name") == "mixture":
            yield f"{path}.drafters[{index}].name: a mixture takes no mixtures: name their drafters in its own list"
