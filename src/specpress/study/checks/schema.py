"""What the JSON schema of a study finds wrong, in the words of its author: a line each, led by the path of the key."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from specpress.study.source_code import ROOT

SCHEMA_FILE = ROOT / "workflow" / "schemas" / "study.schema.yaml"
TYPES = {
    **{"object": "a mapping (key: value)", "array": "a list", "string": "text", "boolean": "true or false"},
    **{"integer": "a whole number", "number": "a number"},
}
ANNOTATIONS = {"int": "integer", "float": "number", "bool": "boolean", "str": "string"}  # of Python, in JSON's words
_COUNTED = {"minimum": 0, "maximum": 2**53}  # whole numbers count slots and tokens, or are seeds
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def _is_whole(checker, value: Any) -> bool:
    """16.0 is no whole number: it would be one to some that read it, and not to others."""
    return isinstance(value, int) and not isinstance(value, bool)


_Validator = extend(Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_whole))


def among_known(name: str, known: Iterable) -> str:
    """What is known in place of a name that is not, and the nearest to it: the end of a sentence."""
    known = sorted({str(item) for item in known})
    close = get_close_matches(name, known, n=1)
    return f"; known: {', '.join(known) or 'none'}" + (f"; did you mean {close[0]!r}?" if close else "")


@cache
def schema() -> dict:
    """The schema of a whole study."""
    return yaml.load(SCHEMA_FILE.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def definition(name: str) -> dict:
    """The schema of one of its parts."""
    return {"$ref": f"#/$defs/{name}", "$defs": schema()["$defs"]}


def against_schema(value: Any, rules: dict, path: str = "", hint: str = "") -> Iterator[str]:
    """Every problem of a value whose place in the study is `path`; `hint` is added to each."""
    errors = _Validator(rules).iter_errors(value)
    for error in sorted(errors, key=lambda error: [str(key) for key in error.absolute_path]):
        yield from (f"{line}{hint}" for line in _in_words(error, path))


def against_annotation(value: Any, annotation: str, path: str) -> Iterator[str]:
    """What is wrong with the value of an option that a class annotates so; nothing for kinds that a study cannot tell.

    >>> list(against_annotation(16.0, "int | None", "press.window_size"))
    ['press.window_size: must be a whole number, found 16.0; write 16']
    """
    optional = annotation.removeprefix("Optional[").removesuffix("]") if annotation.startswith("Optional[") else None
    kind = ANNOTATIONS.get(optional or annotation.removesuffix(" | None"))
    if kind and not (value is None and (optional or annotation.endswith(" | None"))):
        yield from against_schema(value, {"type": kind, **(_COUNTED if kind == "integer" else {})}, path)


def _in_words(error: ValidationError, path: str) -> Iterator[str]:
    """What a schema error means to the author of a study file, led by the path of the key."""
    keys = list(error.absolute_path)
    match error.validator:
        case "additionalProperties":
            known = error.schema["properties"]
            for key in error.instance:
                if key not in known:
                    yield f"{path_of(path, [*keys, key])}: unknown key" + among_known(str(key), known)
        case "required" | "dependentRequired":
            missing, *beside = error.message.split("'")[1::2]  # the message quotes the missing key first
            yield f"{path_of(path, [*keys, missing])}: missing" + (f" beside {beside[0]}" if beside else "")
        case _:
            yield f"{path_of(path, keys)}: {_sentence(error)}"


def _sentence(error: ValidationError) -> str:
    value, rule = error.instance, error.validator_value
    match error.validator:
        case "type":
            wanted = " or ".join(TYPES[name] for name in ([rule] if isinstance(rule, str) else rule))
            return f"must be {wanted}, found {value!r}{_hint(value, rule)}"
        case "enum":
            return f"unknown value {value!r}" + among_known(str(value), rule)
        case "pattern":
            words = error.schema.get("description")
            return f"{value!r} must match {rule}" + (f" ({words})" if words else "")
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            return f"must be {BOUNDS[error.validator]} {rule}, found {value}"
        case _:
            return error.message


def _hint(value: Any, wanted: str | list[str]) -> str:
    """What YAML does unasked: 3e-4 without a dot is text, 1.0 without quotes is a number; 16.0 is not 16."""
    if isinstance(value, float) and value.is_integer() and wanted == "integer":
        return f"; write {int(value)}"
    if isinstance(value, (int, float)) and wanted == "string":
        return "; write it in quotes"
    try:
        return f" (text; as a number: {float(value)!r})" if isinstance(value, str) else ""
    except ValueError:
        return ""


def path_of(path: str, keys: Iterable) -> str:
    """`experiments[3]` and ("drafter", "model") give `experiments[3].drafter.model`."""
    for key in keys:
        path += f"[{key}]" if isinstance(key, int) else f".{key}" if path else str(key)
    return path or "the study"
