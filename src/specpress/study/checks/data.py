"""What is wrong with a data set of a study, and with an experiment that reads prompts, beyond what the schema says."""

from collections.abc import Iterator
from typing import Any

from specpress.study.checks.lenient import field, items
from specpress.study.checks.names import unknown


def is_prompts(data: dict, name: Any) -> bool:
    """Whether the data set of that name is one of prompts."""
    return isinstance(name, str) and field(data.get(name), "kind") == "prompts"


def data_problems(data: dict, name: str) -> Iterator[str]:
    """Keys of a data set that contradict each other, and what it is made of, if that is not there."""
    entry = items(data, name, dict)
    source, path = items(entry, "source", dict), f"data.{name}.source"
    if source.get("kind") == "hub" and "file" not in source and "split" not in source:
        yield f"{path}.file: missing; the path of one file there, or else `split` (with `config` if there are several)"
    if source.get("kind") == "hub" and "file" in source and "split" in source:
        yield f"{path}.file: does not go with `split`; a file is read as it is, a split by the loader: remove one"
    if entry.get("kind") == "prompts":
        yield from _made_problems(data, name, entry, source)
        return
    if "document_characters" in entry and entry.get("reader") != "text":
        yield f"data.{name}.document_characters: only the reader text groups paragraphs; remove it"
    if "column" in entry and entry.get("reader") not in ("parquet", "wikitext"):
        yield f"data.{name}.column: only the readers of parquet files (parquet, wikitext) have columns; remove it"


def _made_problems(data: dict, name: str, entry: dict, source: dict) -> Iterator[str]:
    """Prompts that are made of other data sets: these have to be there, and of the right kind."""
    path = f"data.{name}.source.data"
    if source.get("kind") == "passages":
        made_of = source.get("data")
        yield from unknown(path, "data set", made_of, data)
        if is_prompts(data, made_of):
            yield f"{path}: {made_of!r} holds prompts; name a data set of texts to take passages from"
        for key in ("category", "most_turns"):
            if key in entry:
                yield f"data.{name}.{key}: prompts that are made have categories and one turn; remove it"
    if source.get("kind") == "sets" and isinstance(source.get("data"), list):
        for index, part in enumerate(source["data"]):
            yield from unknown(f"{path}[{index}]", "data set", part, data)
            if isinstance(part, str) and part in data and not is_prompts(data, part):
                yield f"{path}[{index}]: {part!r} holds texts; a set of prompts has kind: prompts"
            if isinstance(part, str) and field(field(data.get(part), "source"), "kind") == "sets":
                yield f"{path}[{index}]: {part!r} is made of sets itself; name those"
        for key in ("chat", "category", "most_turns"):
            if key in entry:
                yield f"data.{name}.{key}: the sets it is made of say that themselves; remove it here"


def prompt_problems(body: dict, path: str) -> Iterator[str]:
    """An experiment on prompts that reads texts, or wants rows of one length."""
    if body.get("kind") not in ("speed", "chain"):
        yield f"{path}.data: {body['data']!r} holds prompts; an experiment of kind {body.get('kind')} reads texts"
    if body.get("batch", 1) != 1:
        yield f"{path}.batch: prompts differ in length, and the rows of a batch may not; remove it, or take texts"
