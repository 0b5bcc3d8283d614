"""What a fork that runs Snakemake (forked.py) has from the beginning: its imports, and the syntax trees of our sources.

Which sources a job depends on is read from every one of them each time, most of which no test changes.
"""

import ast
import gc
from pathlib import Path

import docutils.core  # noqa: F401
import jinja2  # noqa: F401
import jsonschema  # noqa: F401
import pandas as pd  # noqa: F401
import pulp  # noqa: F401
import snakemake.cli
import snakemake.report.html_reporter  # noqa: F401

SOURCES = Path(__file__).resolve().parents[2] / "src"
PARSE = ast.parse
TREES = {text: PARSE(text) for text in (path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))}


def parse(source, *arguments, **options):
    """`ast.parse`, which finds the same in the same text."""
    return TREES.get(source) or PARSE(source, *arguments, **options)


ast.parse = parse
gc.collect()
gc.freeze()  # the trees are many, and stay
