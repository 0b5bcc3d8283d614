"""Metrics files, read and checked."""

import json
from collections.abc import Iterable
from pathlib import Path

from specpress.files.metrics import SCHEMA

KINDS = ("speed", "perplexity", "draft", "chain", "regime", "machine")


class MetricsError(ValueError):
    """A metrics file that cannot be read as one."""


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
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise MetricsError(
                f"{path}: not a readable metrics file ({error}); remove it and run the experiment again"
            ) from error
        missing = [key for key in ("schema", "id", "kind", "spec", "environment") if key not in metrics]
        if missing:
            raise MetricsError(f"{path}: lacks {', '.join(missing)}; remove it and run the experiment again")
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
