"""Render one LaTeX file of the paper from its template and the results of a study."""

import argparse
import json
from pathlib import Path

import pandas as pd
import yaml

from specpress.paper.rendering import render
from specpress.paper.results import Results


def parse_arguments() -> argparse.Namespace:
    """The command line of this rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--template", required=True, metavar="J2", help="the template")
    parser.add_argument("--summary", required=True, metavar="CSV", help="the summary table")
    parser.add_argument("--environment", required=True, metavar="JSON", help="where the results were measured")
    parser.add_argument("--original", required=True, metavar="YAML", help="what the original study reported")
    parser.add_argument(
        "--sources", required=True, metavar="YAML", help="titles, licences and citations of models and data"
    )
    parser.add_argument("--output", required=True, metavar="TEX", help="output")
    return parser.parse_args()


def main() -> None:
    """Read, render, write."""
    arguments = parse_arguments()
    results = Results(
        summary=pd.read_csv(arguments.summary),
        environment=json.loads(Path(arguments.environment).read_text(encoding="utf-8")),
        original=yaml.safe_load(Path(arguments.original).read_text(encoding="utf-8")),
        sources=yaml.safe_load(Path(arguments.sources).read_text(encoding="utf-8")),
    )
    text = render(arguments.template, **results.context())
    Path(arguments.output).parent.mkdir(parents=True, exist_ok=True)
    Path(arguments.output).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
