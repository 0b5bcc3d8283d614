"""From the experiments a study file writes to one spec for each: grids, defaults, and what a spec refers to."""

import json
import re
from collections.abc import Iterator
from itertools import product
from typing import Any

from specpress.study import registry

TABLES = {
    "drafter": registry.DRAFTERS,
    "schedule": registry.SCHEDULES,
    "press": registry.PRESSES,
    "protocol": registry.PROTOCOLS,
    "task": registry.TASKS,
}
LISTS = {"presses": "press", "tasks": "task", "drafters": "drafter"}  # keys of lists of such parts
MODEL_KEYS = ("model", "intermediate_model", "drafter_model", "head")
DATA_KEYS = ("warm", "corpus")  # of a drafter: data sets it knows before the prompt
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def expand(config: dict) -> list[dict]:
    """The spec of every experiment of a valid study: grids multiplied out, defaults merged, sampling resolved.

    Parameters
    ----------
    config : dict
        A study that `load_study` accepts.

    Returns
    -------
    list of dict
        In the order of the file; a grid varies its last key fastest. Keys that are set nowhere are absent.
    """
    return [
        _spec(config, experiment_id, body)
        for template in config["experiments"]
        for experiment_id, body in instances(template)
    ]


def canonical(spec: dict) -> str:
    """One text for one spec, whatever the order its keys were written in: JSON with sorted keys."""
    return json.dumps(spec, sort_keys=True, ensure_ascii=False)


def models_of(spec: dict) -> list[str]:
    """Names of the models and drafts that an experiment loads: its own, the baseline's, those its parts name."""
    return sorted({value for key, value in _items(spec) if key in (*MODEL_KEYS, "baseline") and isinstance(value, str)})


def data_of(spec: dict) -> list[str]:
    """Names of the data sets that an experiment reads: that of its prompts, and those that its drafters know."""
    known = [part[key] for _, what, part in parts(spec) if what == "drafter" for key in DATA_KEYS if key in part]
    return sorted({spec["data"], *known})


def branches(drafter: dict) -> bool:
    """Whether a drafter proposes trees."""
    children = drafter.get("children", 1)
    return drafter.get("name") in registry.BRANCHING or (isinstance(children, int) and children > 1)


def modules_of(spec: dict) -> list[str]:
    """Names of the modules an experiment loads by name: that of its kind, those of the parts it names, at any depth."""
    named = {TABLES[what][part["name"]].split(":")[0] for _, what, part in parts(spec)}
    return sorted({f"specpress.experiments.{spec['kind']}", *named})


def is_timed(spec: dict) -> bool:
    """Whether an experiment reads the clock, and so must have the machine to itself."""
    return spec["kind"] != "tasks" and (spec["kind"] != "perplexity" or "timed_steps" in spec)


def why_not_compared(spec: dict) -> str | None:
    """Why the texts of a speed experiment say nothing beside the baseline's; None if they should be the same."""
    if spec["model"] != spec["baseline"]:
        return f"{spec['model']} is another model than {spec['baseline']}: its text differs by design"
    if "press" in spec:
        return "the target's own cache is compressed: its text differs by design"
    if spec["sampling"]["temperature"] > 0:
        return "sampled texts differ by design; that the sampled law is the target's is proved by the test suite"
    return None


def is_compared(spec: dict) -> bool:
    """Whether the texts of an experiment are compared with the baseline's, token by token."""
    return spec["kind"] == "speed" and why_not_compared(spec) is None


def instances(template: dict) -> Iterator[tuple[str, dict]]:
    """(ID, body) for each point of a template's grid; the body has `kind` but neither `id` nor `grid`."""
    grid = template.get("grid", {})
    body = {key: value for key, value in template.items() if key not in ("id", "grid")}
    for point in product(*grid.values()):
        values = dict(zip(grid, point, strict=True))
        in_id = {name: _text(value).replace("_", "-") for name, value in values.items()}
        yield str(_fill(template["id"], in_id)), _fill(body, values)


def _fill(value: Any, values: dict[str, Any]) -> Any:
    """`value` with its placeholders filled: a string that is one placeholder takes the value with its type."""
    if isinstance(value, dict):
        return {key: _fill(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, values) for item in value]
    if not isinstance(value, str):
        return value
    whole = PLACEHOLDER.fullmatch(value)
    if whole and whole[1] in values:
        return values[whole[1]]
    return PLACEHOLDER.sub(lambda match: _text(values.get(match[1], match[0])), value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def merged(config: dict, body: dict) -> dict:
    """The body of an experiment over the defaults of its kind."""
    return {**config.get("defaults", {}).get(body["kind"], {}), **body}


def _spec(config: dict, experiment_id: str, body: dict) -> dict:
    spec = {"id": experiment_id, **merged(config, body)}
    if spec["kind"] == "speed":
        spec = {"baseline": config["baseline"], **spec}
    if "sampling" in spec:
        name = spec["sampling"]
        spec["sampling"] = {"name": name, **config["sampling"][name]}
    return {"model": spec.get("baseline", config["baseline"]), **spec}


def parts(value: Any, path: tuple = ()) -> Iterator[tuple[tuple, str, dict]]:
    """(path, what it is, one of TABLES, its mapping) for each such part of a spec, at any depth.

    The presses inside a press may be a name alone, `press: snapkv`, or a list, `presses: [snapkv, {name: tova}]`.
    """
    for key, item in _children(value):
        what = LISTS.get(path[-1], key) if path else key
        if what in TABLES and isinstance(item, dict):
            yield (*path, key), what, item
        elif what == "press" and isinstance(item, str):
            yield (*path, key), what, {"name": item}
        yield from parts(item, (*path, key))


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every key (or index) and value inside nested mappings and lists."""
    for key, item in _children(value):
        yield key, item
        yield from _items(item)


def _children(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)
