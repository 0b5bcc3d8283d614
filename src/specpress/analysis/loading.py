"""Metrics files, read and checked."""

import json
import traceback
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path

from specpress.files.metrics import SCHEMA

KINDS = ("speed", "perplexity", "draft", "chain", "regime", "tasks", "machine", "rounding")


_AGAIN = "remove it and run the experiment again"
# What an analysis raises that meets a value of another kind than it was written for.
_WRONG = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError, AssertionError)


class MetricsError(ValueError):
    """A metrics file that cannot be read as one."""


def blaming_files(analysis: Callable) -> Callable:
    """`analysis(metrics, ...)`, which on a failure says which file it failed on, and where in the code.

    The wrapped function raises MetricsError. The file is found by analysing each alone; where none fails alone, all
    are named.
    """

    @wraps(analysis)
    def guarded(metrics: Iterable[Mapping], *arguments, **options):
        metrics = list(metrics)
        try:
            return analysis(metrics, *arguments, **options)
        except MetricsError:
            raise
        except _WRONG as error:
            for item in metrics:
                try:
                    analysis([item], *arguments, **options)
                except _WRONG as own:
                    raise MetricsError(f"{item.get('file', item['id'])}: {_in_words(own)}; {_AGAIN}") from own
            files = ", ".join(sorted(str(item.get("file", item["id"])) for item in metrics))
            raise MetricsError(f"the metrics files do not fit together: {_in_words(error)} (files: {files})") from error

    return guarded


def _in_words(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return f"a value is missing or of another kind than is expected ({said}, {Path(last.filename).name}:{last.lineno})"


def load_metrics(paths: Iterable[str | Path]) -> list[dict]:
    """Read metrics files; each result carries its path under "file".

    Raises
    ------
    MetricsError
        If a file is not JSON, lacks a key, was written under another schema, or repeats an id.
    """
    loaded, seen = [], {}
    for path in paths:
        try:
            metrics = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise MetricsError(
                f"{path}: not a readable metrics file ({error}); remove it and run the experiment again"
            ) from error
        if not isinstance(metrics, dict):
            raise MetricsError(f"{path}: holds {type(metrics).__name__}, no metrics; {_AGAIN}")
        missing = [key for key in ("schema", "id", "kind", "spec", "environment") if key not in metrics]
        if missing:
            raise MetricsError(f"{path}: lacks {', '.join(missing)}; {_AGAIN}")
        for key, kind in (("id", str), ("spec", dict), ("environment", dict)):
            if not isinstance(metrics[key], kind):
                raise MetricsError(f"{path}: {key} is of the type {type(metrics[key]).__name__}; {_AGAIN}")
        if metrics["schema"] != SCHEMA:
            raise MetricsError(
                f"{path}: schema {metrics['schema']!r}, this version reads {SCHEMA}; "
                f"measure it again with: snakemake --cores all --force {path}"
            )
        if metrics["kind"] not in KINDS:
            raise MetricsError(f"{path}: kind {metrics['kind']!r} is unknown; known: {', '.join(KINDS)}")
        if metrics["id"] in seen:
            raise MetricsError(f"{path}: id {metrics['id']!r} was already read from {seen[metrics['id']]}")
        seen[metrics["id"]] = path
        loaded.append({**metrics, "file": str(path)})
    return loaded
