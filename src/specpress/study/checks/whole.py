"""What is wrong with a study file, in one line for each problem, led by the path of its key.

The JSON schema says what a file may look like; the rest are names that refer to nothing, placeholders, duplicate IDs.
Experiments are checked after their grids are expanded, so that a placeholder is judged by the value it takes.
"""

from collections.abc import Collection, Iterator
from typing import Any

from specpress.study import registry
from specpress.study.abilities import ABILITIES, PROMPT_ONLY, QUALITY_ONLY, REFUSED, Ability
from specpress.study.checks.data import data_problems, is_prompts, prompt_problems
from specpress.study.checks.drafts import draft_problems, head_problems
from specpress.study.checks.schema import against_annotation, against_schema, among_known, definition, path_of, schema
from specpress.study.checks.tasks import task_problems
from specpress.study.checks.trees import mixture_problems, tree_problems
from specpress.study.expansion import DATA_KEYS, MODEL_KEYS, PLACEHOLDER, TABLES, instances, merged, parts
from specpress.study.source_code import class_annotations, class_parameters

KINDS = ("speed", "chain", "perplexity", "regime", "tasks")
_TOKEN_SECONDS = 1e-3  # less than any machine known here takes for a token of the baseline and one of a method


def problems(config: dict) -> Iterator[str]:
    """Every problem, roughly in the order of the file. Malformed parts are skipped by the checks that rely on them."""
    yield from against_schema(config, schema())
    yield from _reference_problems(config)
    seen: dict[str, str] = {}
    for index, template in enumerate(_items(config, "experiments", list)):
        if isinstance(template, dict):
            yield from _experiment_problems(config, template, f"experiments[{index}]", seen)


def _items(config: dict, key: str, kind: type) -> Any:
    """`config[key]` if it has the right type, else an empty one: the schema has already complained."""
    value = config.get(key)
    return value if isinstance(value, kind) else kind()


def _reference_problems(config: dict) -> Iterator[str]:
    """Names in models, drafts, baseline and defaults that refer to nothing, or to two things."""
    models, drafts, data = (_items(config, key, dict) for key in ("models", "drafts", "data"))
    for name in drafts:
        if name in models:
            yield f"drafts.{name}: {name!r} is also a model; models and drafts share their names, rename one"
        draft = _items(drafts, name, dict)
        yield from draft_problems(name, draft)
        yield from _unknown(f"drafts.{name}.target", "model", draft.get("target"), models)
        target = draft.get("target")
        if isinstance(target, str) and _field(models.get(target), "weights") is not None:
            yield (
                f"drafts.{name}.target: {target!r} is held in fewer bits, and drafts start as layers of their "
                "target in full: name the same model without `weights`"
            )
        for index, source in enumerate(_items(draft, "data", list)):
            yield from _unknown(f"drafts.{name}.data[{index}]", "data set", source, data)
            if is_prompts(data, source):
                yield f"drafts.{name}.data[{index}]: {source!r} holds prompts, which no draft is trained on; name texts"
    device = str(config.get("device", "auto"))
    for name, entry in models.items():
        if _field(entry, "weights") is not None and device.partition(":")[0] in ("cuda", "mps"):
            yield f"models.{name}.weights: they run on a CPU only, and `device` is {device}; remove one of the two"
    for name in data:
        yield from data_problems(data, name)
    yield from _unknown("baseline", "model or draft", config.get("baseline"), [*models, *drafts])
    for kind, body in _items(config, "defaults", dict).items():
        if isinstance(body, dict):
            yield from name_problems(config, body, f"defaults.{kind}")


def _experiment_problems(config: dict, template: dict, path: str, seen: dict[str, str]) -> Iterator[str]:
    """Problems of one entry of `experiments`; `seen` maps the IDs so far to their paths and is extended."""
    grid = _items(template, "grid", dict)
    if not isinstance(template.get("id"), str) or template.get("kind") not in KINDS:
        return
    placeholder_problems = list(_placeholder_problems(template, grid, path))
    yield from placeholder_problems
    if placeholder_problems or not all(isinstance(values, list) and values for values in grid.values()):
        return
    for experiment_id, body in instances({**template, "grid": grid}):
        yield from against_schema(experiment_id, definition("id"), f"{path}.id")
        if experiment_id in seen:
            hint = ": every grid key belongs in the ID" if seen[experiment_id] == path and grid else ""
            yield f"{path}.id: duplicate ID {experiment_id!r}, already given by {seen[experiment_id]}{hint}"
        seen.setdefault(experiment_id, path)
        yield from _body_problems(config, body, path)


def _body_problems(config: dict, body: dict, path: str) -> Iterator[str]:
    """Problems of one expanded experiment: what it sets itself, then what it lacks with the defaults merged in."""
    kind = body["kind"]
    own = {key: value for key, value in body.items() if key != "kind"}
    yield from against_schema(own, definition(kind), path)
    yield from name_problems(config, own, path)
    defaults = {kind: _items(_items(config, "defaults", dict), kind, dict)}
    complete = merged({"defaults": defaults}, body)
    yield from against_schema(complete, definition(f"{kind}_complete"), path, hint=f", here or in defaults.{kind}")
    if kind == "perplexity":
        ratios = complete.get("ratios")
        if isinstance(ratios, list) and ratios and 0 not in ratios:
            yield f"{path}.ratios: must contain 0, the uncompressed reference of the others"
        if "press" not in complete and "baseline" not in complete:
            yield f"{path}.press: missing; name a press, or the `baseline` whose perplexity the model's is set beside"
        elif "press" not in complete and ratios != [0]:
            yield f"{path}.ratios: must be [0] without a press, which compresses to the others; found {ratios}"
        if "compression_ratio" in _items(complete, "press", dict):
            yield f"{path}.press.compression_ratio: `ratios` gives it in a perplexity experiment; remove it here"
    if kind == "tasks":
        yield from task_problems(complete, path)
    if is_prompts(_items(config, "data", dict), complete.get("data")):
        yield from prompt_problems(complete, path)
    if kind == "regime" and not _items(complete, "press", dict).get("compression_ratio"):
        yield f"{path}.press.compression_ratio: missing; the fraction removed, above 0 and below 1"
    yield from _effort_problems(complete, path)
    yield from method_problems(complete, path)
    steps = _items(complete, "steps", list)
    for index, step in enumerate(steps):
        yield from method_problems(step, f"{path}.steps[{index}]")
    yield from _chain_problems(steps, f"{path}.steps")
    yield from _layer_problems(config, complete, path)
    yield from head_problems(_items(config, "drafts", dict), complete, path)
    yield from _device_problems(str(config.get("device", "auto")), complete, path)


def _device_problems(device: str, body: dict, path: str) -> Iterator[str]:
    """Drafters that the device of the study cannot run."""
    if device.partition(":")[0] not in ("cuda", "mps"):
        return
    for place, what, part in parts(body):
        if what == "drafter" and part.get("name") in registry.ON_CPU:
            runs = f"{part['name']} runs on a CPU only, and `device` is {device}"
            yield f"{path_of(path, place)}: {runs}; remove one of the two"


def _layer_problems(config: dict, body: dict, path: str, model: str | None = None) -> Iterator[str]:
    """Lists with a number for each layer, `compression_ratios`, of another length than the model has layers.

    `model` : the one whose cache the presses of `body` compress, unless it names another; the experiment's baseline
    """
    model = next((body[key] for key in ("model", "intermediate_model") if isinstance(body.get(key), str)), model)
    layers = _layers(config, model or body.get("baseline", config.get("baseline")))
    for key, item in body.items():
        where = f"{path}.{key}"
        if key == "compression_ratios" and isinstance(item, list) and layers and len(item) != layers:
            yield f"{where}: must have one ratio for each of the {layers} layers, found {len(item)}"
        for index, part in enumerate(item if isinstance(item, list) else [item]):
            if isinstance(part, dict):
                yield from _layer_problems(
                    config, part, f"{where}[{index}]" if isinstance(item, list) else where, model
                )


def _layers(config: dict, name: Any) -> int | None:
    """The layers of a model or draft, where the study tells them."""
    if not isinstance(name, str):
        return None
    model, draft = _items(config, "models", dict).get(name), _items(config, "drafts", dict).get(name)
    stated = (
        _field(draft, "layers") or _field(_field(model, "shape"), "layers") or _field(_field(model, "source"), "layers")
    )
    return stated if isinstance(stated, int) else None


def _effort_problems(body: dict, path: str) -> Iterator[str]:
    """Prompts and seconds that contradict each other."""
    least, most, budget, new = (
        body.get(key) if isinstance(body.get(key), (int, float)) else None
        for key in ("least_prompts", "most_prompts", "budget_seconds", "max_new_tokens")
    )
    if least is not None and most is not None and least > most:
        yield f"{path}.least_prompts: must be at most most_prompts, {most}, found {least}"
    if None not in (least, budget, new) and budget < (needed := _TOKEN_SECONDS * least * new):
        yield (
            f"{path}.budget_seconds: {budget} s is too little for least_prompts, {least}, of {new} new tokens: give at "
            f"least {needed:g} s, a millisecond for each token"
        )


def _chain_problems(steps: list, path: str) -> Iterator[str]:
    """Steps of a chain that cannot be told apart."""
    names = [_field(step, "name") for step in steps]
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            yield f"{path}[{index}].name: duplicate name {name!r}, already given by {path}[{names.index(name)}]"
    anchors = [index for index, step in enumerate(steps) if _field(step, "anchor") is True]
    for index in anchors[1:]:
        yield f"{path}[{index}].anchor: {path}[{anchors[0]}] is the anchor already; a chain has one"


def method_problems(body: Any, path: str) -> Iterator[str]:
    """A method that contradicts itself.

    The original protocol keeps no cache, so nothing that needs one goes along; some presses compress once only.
    """
    if _field(body, "protocol") is not None:
        for key in ("drafter", "press"):
            if key in body:
                where = path_of(path, [key])
                yield f"{where}: does not go with a protocol, which has a loop of its own; remove one of them"
    yield from tree_problems(body, path)
    presses = [part for _, what, part in parts({"press": _field(body, "press")}) if what == "press"]
    once_only = [ability for ability in map(_ability, presses) if ability.status in (PROMPT_ONLY, QUALITY_ONLY)]
    for key in ("cache_budget", "decoding_interval"):
        if _field(body, key) is not None:
            for ability in once_only:
                where = path_of(path, [key])
                yield f"{where}: {presses[0].get('name')!r} cannot compress while decoding: it {ability.reason}"


def _ability(press: dict) -> Ability:
    """What the press of that name can do here; anything, if nothing is known of it."""
    return ABILITIES.get(press.get("name"), Ability()) if isinstance(press.get("name"), str) else Ability()


def _field(value: Any, key: str) -> Any:
    """`value[key]` where that is defined, else None."""
    return value.get(key) if isinstance(value, dict) else None


def _placeholder_problems(template: dict, grid: dict, path: str) -> Iterator[str]:
    """Placeholders without a grid entry, and grid keys that no value uses."""
    used = set()
    for where, text in _strings({key: value for key, value in template.items() if key != "grid"}):
        for name in PLACEHOLDER.findall(text):
            if where != ("id",):
                used.add(name)
            if name not in grid:
                yield f"{path_of(path, where)}: placeholder {{{name}}} has no entry in grid" + among_known(name, grid)
    for name in grid:
        if name not in used:
            yield f"{path}.grid.{name}: no value of this experiment uses {{{name}}}; use it or remove the entry"


def _strings(value: Any, path: tuple = ()) -> Iterator[tuple[tuple, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _strings(item, (*path, key))


def name_problems(config: dict, body: dict, path: str) -> Iterator[str]:
    """Names in an experiment, or in the defaults of a kind, that refer to nothing; options that no class takes."""
    models = [*_items(config, "models", dict), *_items(config, "drafts", dict)]
    for key in ("baseline", "model"):
        yield from _unknown(path_of(path, [key]), "model or draft", body.get(key), models)
    yield from _unknown(f"{path}.data", "data set", body.get("data"), _items(config, "data", dict))
    for index, step in enumerate(_items(body, "steps", list)):
        yield from _unknown(f"{path}.steps[{index}].model", "model or draft", _field(step, "model"), models)
    yield from _unknown(f"{path}.sampling", "sampling", body.get("sampling"), _items(config, "sampling", dict))
    for where, what, part in parts(body):
        yield from _part_problems(part, what, path_of(path, where), models, [*_items(config, "data", dict)])


def _part_problems(part: dict, what: str, path: str, models: list[str], data: list[str]) -> Iterator[str]:
    name = part.get("name")
    unknown = list(_unknown(f"{path}.name", what, name, TABLES[what]))
    yield from unknown
    for key in MODEL_KEYS:
        yield from _unknown(f"{path}.{key}", "model or draft", part.get(key), models)
    for key in DATA_KEYS:
        yield from _unknown(f"{path}.{key}", "data set", part.get(key), data)
    yield from mixture_problems(part, path)
    if what == "press" and _ability(part).status == REFUSED:
        yield f"{path}.name: press {name!r} cannot run here: it {_ability(part).reason}"
    options = class_parameters(TABLES[what][name]) if isinstance(name, str) and not unknown else None
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


def _unknown(path: str, what: str, name: Any, known: Collection) -> Iterator[str]:
    """A line if `name` is a string that is not among the known names (other types are the schema's business)."""
    if isinstance(name, str) and name not in known:
        yield f"{path}: unknown {what} {name!r}" + among_known(name, known)
