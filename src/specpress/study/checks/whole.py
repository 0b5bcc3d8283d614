"""What is wrong with a study file, in one line for each problem, led by the path of its key.

The JSON schema says what a file may look like; the rest are names that refer to nothing, placeholders, duplicate IDs.
Experiments are checked after their grids are expanded, so that a placeholder is judged by the value it takes.
"""

from collections.abc import Iterator
from typing import Any

from specpress.study import registry
from specpress.study.abilities import PROMPT_ONLY, QUALITY_ONLY
from specpress.study.checks.data import data_problems, is_prompts, prompt_problems
from specpress.study.checks.drafts import draft_problems, head_problems
from specpress.study.checks.lenient import field, items
from specpress.study.checks.names import ability_of, name_problems, unknown
from specpress.study.checks.schema import against_schema, among_known, definition, path_of, schema
from specpress.study.checks.tasks import task_problems
from specpress.study.checks.trees import tree_problems
from specpress.study.expansion import PLACEHOLDER, instances, merged, parts

KINDS = ("speed", "chain", "perplexity", "regime", "tasks")
_TOKEN_SECONDS = 1e-3  # less than any machine known here takes for a token of the baseline and one of a method


def problems(config: dict) -> Iterator[str]:
    """Every problem, roughly in the order of the file. Malformed parts are skipped by the checks that rely on them."""
    yield from against_schema(config, schema())
    yield from _reference_problems(config)
    seen = _taken(config)
    for index, template in enumerate(items(config, "experiments", list)):
        if isinstance(template, dict):
            yield from _experiment_problems(config, template, f"experiments[{index}]", seen)


def _taken(config: dict) -> dict[str, str]:
    """The IDs of results that are no experiment's, each with what has it."""
    drafts = {name: f"drafts.{name}" for name in items(config, "drafts", dict)}
    models = [*items(config, "models", dict), *drafts]
    return {**drafts, "machine": "the rates of the machine"} | {
        f"rounding-{name}": f"the rounding of {name}" for name in models
    }


def _reference_problems(config: dict) -> Iterator[str]:
    """Names in models, drafts, baseline and defaults that refer to nothing, or to two things."""
    models, drafts, data = (items(config, key, dict) for key in ("models", "drafts", "data"))
    for name in drafts:
        if name in models:
            yield f"drafts.{name}: {name!r} is also a model; models and drafts share their names, rename one"
        draft = items(drafts, name, dict)
        yield from draft_problems(name, draft)
        yield from unknown(f"drafts.{name}.target", "model", draft.get("target"), models)
        target = draft.get("target")
        if isinstance(target, str) and field(models.get(target), "weights") is not None:
            yield (
                f"drafts.{name}.target: {target!r} is held in fewer bits, and drafts start as layers of their "
                "target in full: name the same model without `weights`"
            )
        for index, source in enumerate(items(draft, "data", list)):
            yield from unknown(f"drafts.{name}.data[{index}]", "data set", source, data)
            if is_prompts(data, source):
                yield f"drafts.{name}.data[{index}]: {source!r} holds prompts, which no draft is trained on; name texts"
    device = str(config.get("device", "auto"))
    for name, entry in models.items():
        if field(entry, "weights") is not None and device.partition(":")[0] in ("cuda", "mps"):
            yield f"models.{name}.weights: they run on a CPU only, and `device` is {device}; remove one of the two"
    for name in data:
        yield from data_problems(data, name)
    yield from unknown("baseline", "model or draft", config.get("baseline"), [*models, *drafts])
    for kind, body in items(config, "defaults", dict).items():
        if isinstance(body, dict):
            yield from name_problems(config, body, f"defaults.{kind}")


def _experiment_problems(config: dict, template: dict, path: str, seen: dict[str, str]) -> Iterator[str]:
    """Problems of one entry of `experiments`; `seen` maps the IDs so far to their paths and is extended."""
    grid = items(template, "grid", dict)
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
    defaults = {kind: items(items(config, "defaults", dict), kind, dict)}
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
        if "compression_ratio" in items(complete, "press", dict):
            yield f"{path}.press.compression_ratio: `ratios` gives it in a perplexity experiment; remove it here"
    if kind == "tasks":
        yield from task_problems(complete, path)
    if is_prompts(items(config, "data", dict), complete.get("data")):
        yield from prompt_problems(complete, path)
    if kind == "regime" and not items(complete, "press", dict).get("compression_ratio"):
        yield f"{path}.press.compression_ratio: missing; the fraction removed, above 0 and below 1"
    yield from _effort_problems(complete, path)
    yield from method_problems(complete, path)
    steps = items(complete, "steps", list)
    for index, step in enumerate(steps):
        yield from method_problems(step, f"{path}.steps[{index}]")
    yield from _chain_problems(steps, f"{path}.steps")
    yield from _layer_problems(config, complete, path)
    yield from head_problems(items(config, "drafts", dict), complete, path)
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
    model, draft = items(config, "models", dict).get(name), items(config, "drafts", dict).get(name)
    stated = field(draft, "layers") or field(field(model, "shape"), "layers") or field(field(model, "source"), "layers")
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
    names = [field(step, "name") for step in steps]
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            yield f"{path}[{index}].name: duplicate name {name!r}, already given by {path}[{names.index(name)}]"
    anchors = [index for index, step in enumerate(steps) if field(step, "anchor") is True]
    for index in anchors[1:]:
        yield f"{path}[{index}].anchor: {path}[{anchors[0]}] is the anchor already; a chain has one"


def method_problems(body: Any, path: str) -> Iterator[str]:
    """A method that contradicts itself.

    The original protocol keeps no cache, so nothing that needs one goes along; some presses compress once only.
    """
    if field(body, "protocol") is not None:
        for key in ("drafter", "press"):
            if key in body:
                where = path_of(path, [key])
                yield f"{where}: does not go with a protocol, which has a loop of its own; remove one of them"
    yield from tree_problems(body, path)
    presses = [part for _, what, part in parts({"press": field(body, "press")}) if what == "press"]
    once_only = [ability for ability in map(ability_of, presses) if ability.status in (PROMPT_ONLY, QUALITY_ONLY)]
    for key in ("cache_budget", "decoding_interval"):
        if field(body, key) is not None:
            for ability in once_only:
                where = path_of(path, [key])
                yield f"{where}: {presses[0].get('name')!r} cannot compress while decoding: it {ability.reason}"


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
