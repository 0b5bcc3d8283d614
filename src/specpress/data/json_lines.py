"""Files of JSON lines, as records.

Read here: the loader of `datasets` ends the process at a line `null`, takes texts that look like dates for dates, and
wants values of one type under a key.
"""

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from specpress.data.loaders import PACKED, ReaderError, whole_text


def json_records(path: Path) -> Iterator[dict]:
    """The records of a file of JSON lines, which may be compressed, or of one JSON list of them.

    Raises
    ------
    ReaderError
        With the line, if there is one that is no record.
    """
    from fsspec.implementations.local import LocalFileSystem

    some = False
    try:
        with LocalFileSystem().open(str(path.absolute()), "rb", compression="infer") as unpacked:
            for record in _records(io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="\n"), path):
                some = True
                yield record
    except ReaderError:
        raise
    except Exception as error:  # of what unpacks it any
        if path.suffix not in PACKED:
            whole_text(path)  # says at which byte it is not
        raise ReaderError(f"{path} is no file of JSON lines ({error})") from error
    if not some:
        raise ReaderError(f"{path} holds no record")


def _records(lines: io.TextIOWrapper, path: Path) -> Iterator[dict]:
    some = False
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if not some and line.lstrip().startswith("["):
            listed = _value(line + lines.read(), where)
            yield from (_record(value, f"{path}, element {k} of the list") for k, value in enumerate(listed, start=1))
            return
        if line.strip():
            some = True
            yield _record(_value(line, where), where)


def _record(value: Any, where: str) -> dict:
    if not isinstance(value, dict):
        raise ReaderError(f"{where}: expected a record, {{...}}")
    return value


def _value(text: str, where: str) -> Any:
    """What a JSON text says, if it says it once and in whole characters."""
    try:
        value = json.loads(text, object_pairs_hook=_once)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ReaderError(f"{where}: it holds half a character (a surrogate); correct it") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise ReaderError(f"{where}: not JSON ({error})") from error
    except ValueError as error:  # a number of thousands of digits, a key twice
        raise ReaderError(f"{where}: {error}") from error
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict:
    """The mapping of these pairs, whose keys differ."""
    if len(mapping := dict(pairs)) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"the key {twice!r} is given twice")
    return mapping
