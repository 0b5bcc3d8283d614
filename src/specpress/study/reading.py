"""A study file as YAML reads it, and what YAML would let pass: keys given twice, numbers that are none, texts that end.

Every problem names its file and line; `value_problems` judges a study that something else has read, by the path of its
keys.
"""

import math
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.reader import ReaderError

_DEEPEST = 40  # a study nests some ten levels


class FileProblem(ValueError):
    """A study file that cannot be read as one; the message names file and line."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Refuses a key that a mapping has already, and says where a value is that is none, such as a thirteenth month."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise ConstructorError(None, None, str(error), node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        first: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConstructorError(None, None, "a key must be text, not a list or a mapping", key_node.start_mark)
            key = key_node.value
            if key in first:
                where = f"the key {key!r} is given twice, here and in line {first[key]}; remove one of them"
                raise ConstructorError(None, None, where, key_node.start_mark)
            first[key] = line
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> Any:
    """What a study file says.

    Raises
    ------
    FileProblem
        If it is not UTF-8, not YAML, or gives a key twice: with the line.
    OSError
        If it cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + data[: error.start].count(b"\n")
        found = f"byte {data[error.start]:#04x}"
        raise FileProblem(
            f"{path} is not YAML: line {line}: not UTF-8 ({found}); save it as UTF-8, as with iconv -f latin1 -t utf-8"
        ) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Any:
    """What a text says whose name is `name`: a file's, or an argument's.

    Raises
    ------
    FileProblem
        If it is not YAML, or gives a key twice: with the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise FileProblem(f"{name} is not YAML: {_place(error, text)}{_in_words(error, text)}") from error
    except (ValueError, RecursionError) as error:  # half a character, brackets without end
        raise FileProblem(f"{name} is not YAML: {error}") from error


def _place(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, ReaderError):
        return f"line {text.encode()[: error.position].count(10) + 1}: "
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""


def _in_words(error: yaml.YAMLError, text: str) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).replace("\n", " ")
    place = getattr(error, "problem_mark", None)
    if place and "\t" in f"{text}\n".split("\n")[place.line][: place.column + 1]:
        problem += "; indent with spaces, not with tabs"
    context, mark = getattr(error, "context", None), getattr(error, "context_mark", None)
    return problem + (f" ({context} from line {mark.line + 1})" if context and mark else "")


def value_problems(value: Any, path: str = "", depth: int = 0) -> Iterator[str]:
    """Values that no study can hold, each led by the path of its key, whatever their key asks for."""
    if depth > _DEEPEST:
        yield f"{path}: nested deeper than any study; an alias (*name) may stand within its own anchor (&name)"
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                yield f"{path or 'the study'}: the key {key!r} must be text; write it in quotes"
            else:
                yield from value_problems(item, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from value_problems(item, f"{path}[{index}]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path}: must be a finite number, found {value}"
    elif isinstance(value, str) and not _whole(value):
        yield f"{path}: {value!r} holds half a character (a surrogate); write the whole one"
    elif not isinstance(value, (str, int, float, type(None))):
        yield f"{path}: found {type(value).__name__} {value!r}; write it in quotes if it is to be text"


def _whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
