"""What is wrong with how an experiment proposes and verifies trees, beyond the schema."""

from collections.abc import Iterator
from typing import Any

from specpress.study.checks.schema import path_of
from specpress.study.expansion import branches
from specpress.study.registry import SEEING_CACHE

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
        if isinstance(schedule, dict) and schedule.get("name") == "optimal":
            where = path_of(path, ["schedule", "name"])
            yield f"{where}: optimal counts on paths; {name!r} proposes trees: use optimal_tree"
        inner = drafter.get("drafters")
        inside = [part.get("name") for part in inner if isinstance(part, dict)] if isinstance(inner, list) else []
        if isinstance(batch, int) and batch > 1 and (seeing := [one for one in inside if one in SEEING_CACHE]):
            yield (
                f"{path_of(path, ['batch'])}: in a mixture {seeing[0]!r} drafts for one sequence at a time: remove it, "
                "or leave that drafter out"
            )
    elif isinstance(schedule, dict) and schedule.get("name") == "optimal_tree":
        where = path_of(path, ["schedule", "name"])
        yield f"{where}: optimal_tree sizes trees; {name!r} proposes paths: use optimal"


def mixture_problems(part: dict, path: str) -> Iterator[str]:
    """Mixtures inside a drafter whose place in the study is `path`."""
    inner = part.get("drafters")
    for index, drafter in enumerate(inner if isinstance(inner, list) else ()):
        if isinstance(drafter, dict) and drafter.get("name") == "mixture":
            yield f"{path}.drafters[{index}].name: a mixture takes no mixtures: name their drafters in its own list"
