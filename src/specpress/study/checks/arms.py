"""What is wrong with a method that no study describes: one on a command line, whose models are paths.

It is judged by the rules of a study, of which it is the part that says how to decode.
"""

from collections.abc import Iterator
from typing import Any

from specpress.study.checks.names import name_problems
from specpress.study.checks.schema import against_schema, definition
from specpress.study.checks.whole import method_problems
from specpress.study.expansion import DATA_KEYS, MODEL_KEYS
from specpress.study.reading import value_problems


def arm_problems(arm: dict) -> list[str]:
    """A line for each problem, led by the path of the key: `drafter.max_ngram: must be a whole number, found 1.5`.

    arm : `model`, `drafter`, `schedule`, `verification`, `press` and so on, as in an experiment of the kind `speed`
    """
    found = list(value_problems(arm)) or list(against_schema(arm, definition("speed")))
    if found:
        return found
    config = {"models": dict.fromkeys(_named(arm, MODEL_KEYS)), "data": dict.fromkeys(_named(arm, DATA_KEYS))}
    return [*name_problems(config, arm, ""), *method_problems(arm, "")]


def _named(value: Any, keys: tuple[str, ...]) -> Iterator[str]:
    """The texts at these keys, at any depth."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key in keys and isinstance(item, str):
            yield item
        yield from _named(item, keys)
