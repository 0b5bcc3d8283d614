"""Names that refer to nothing, and options that no class takes."""

from collections.abc import Collection, Iterator
from typing import Any

from specpress.study import registry
from specpress.study.abilities import ABILITIES, REFUSED, Ability
from specpress.study.checks.lenient import field, items
from specpress.study.checks.schema import against_annotation, against_schema, among_known, definition, path_of, schema
from specpress.study.checks.trees import mixture_problems
from specpress.study.expansion import DATA_KEYS, MODEL_KEYS, TABLES, parts
from specpress.study.source_code import class_annotations, class_parameters


def name_problems(config: dict, body: dict, path: str) -> Iterator[str]:
    """Names in an experiment, or in the defaults of a kind, that refer to nothing; options that no class takes."""
    models = [*items(config, "models", dict), *items(config, "drafts", dict)]
    for key in ("baseline", "model"):
        yield from unknown(path_of(path, [key]), "model or draft", body.get(key), models)
    yield from unknown(f"{path}.data", "data set", body.get("data"), items(config, "data", dict))
    for index, step in enumerate(items(body, "steps", list)):
        yield from unknown(f"{path}.steps[{index}].model", "model or draft", field(step, "model"), models)
    yield from unknown(f"{path}.sampling", "sampling", body.get("sampling"), items(config, "sampling", dict))
    for where, what, part in parts(body):
        yield from _part_problems(part, what, path_of(path, where), models, items(config, "data", dict))


def _part_problems(part: dict, what: str, path: str, models: list[str], data: dict) -> Iterator[str]:
    name = part.get("name")
    nameless = list(unknown(f"{path}.name", what, name, TABLES[what]))
    yield from nameless
    for key in MODEL_KEYS:
        yield from unknown(f"{path}.{key}", "model or draft", part.get(key), models)
    for key in DATA_KEYS:
        yield from unknown(f"{path}.{key}", "data set", part.get(key), [*data])
        if field(data.get(part[key]) if isinstance(part.get(key), str) else None, "kind") == "prompts":
            yield f"{path}.{key}: {part[key]!r} holds prompts, of which no part is set aside; name a data set of texts"
    yield from mixture_problems(part, path)
    if what == "press" and ability_of(part).status == REFUSED:
        yield f"{path}.name: press {name!r} cannot run here: it {ability_of(part).reason}"
    options = class_parameters(TABLES[what][name]) if isinstance(name, str) and not nameless else None
    if options is not None:
        yield from _option_problems(part, what, path, options)
        annotations = class_annotations(TABLES[what][name])
        for key in (
            part.keys() & annotations.keys() - schema()["$defs"][what]["properties"].keys()
        ):  # the schema judges those
            yield from against_annotation(part[key], annotations[key], f"{path}.{key}")


def _option_problems(part: dict, what: str, path: str, options: dict[str, bool]) -> Iterator[str]:
    """Options that the class does not take, and those it cannot do without."""
    known, needed = set(options), {key for key, required in options.items() if required}
    if what == "press":  # get_press: a wrapper is told what it wraps, and hands the ratio to that
        known |= {"compression_ratio"} if "press" in options else set()
        needed = (needed | ({"press", "presses"} & set(options))) - {"compression_ratio"}
    for key in part.keys() - {"name"} - known:
        yield f"{path}.{key}: unknown option of the {what} {part['name']!r}" + among_known(key, known)
    for key in needed - part.keys():
        yield f"{path}.{key}: missing; the {what} {part['name']!r} needs it"
    if what == "schedule" and not (part.keys() - {"name"} - known or needed - part.keys()):
        yield from _bound_problems(part, path)


def _bound_problems(part: dict, path: str) -> Iterator[str]:
    """Bounds of a schedule that depend on each other: it is made, which takes nothing, and says so itself."""
    if any(against_schema(part, definition("schedule"))):
        return
    try:
        registry.resolve(registry.SCHEDULES, part["name"], "schedule")(
            **{key: value for key, value in part.items() if key != "name"}
        )
    except (TypeError, ValueError) as error:
        yield f"{path}: {error}"


def unknown(path: str, what: str, name: Any, known: Collection) -> Iterator[str]:
    """A line if `name` is a string that is not among the known names (other types are the schema's business)."""
    if isinstance(name, str) and name not in known:
        yield f"{path}: unknown {what} {name!r}" + among_known(name, known)


def ability_of(press: dict) -> Ability:
    """What the press of that name can do here; anything, if nothing is known of it."""
    return ABILITIES.get(press.get("name"), Ability()) if isinstance(press.get("name"), str) else Ability()
