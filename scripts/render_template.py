"""Render one LaTeX file of the paper, a text or a table, from its template and the results of a study."""

import argparse
import sys
from pathlib import Path

from specpress.files.program import run_program
from specpress.paper.results import Results
from specpress.paper.tables import TABLES
from specpress.paper.typesetting.rendering import render


def parse_arguments() -> argparse.Namespace:
    """The command line of this rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--template", type=Path, required=True, metavar="J2", help="the template")
    parser.add_argument("--table", choices=TABLES, help="the table that the template sets, if it is that of tables")
    parser.add_argument("--summary", type=Path, required=True, metavar="CSV", help="the summary table")
    parser.add_argument("--environment", type=Path, required=True, metavar="JSON", help="where it was measured")
    parser.add_argument("--original", type=Path, required=True, metavar="YAML", help="what the original study reported")
    parser.add_argument(
        "--sources", type=Path, required=True, metavar="YAML", help="titles, licences and citations of models and data"
    )
    parser.add_argument("--captions", type=Path, required=True, metavar="YAML", help="captions of figures and tables")
    parser.add_argument("--output", type=Path, required=True, metavar="TEX", help="output")
    return parser.parse_args()


def main() -> None:
    """Read, render, write."""
    arguments = parse_arguments()
    given = (arguments.summary, arguments.environment, arguments.original, arguments.sources, arguments.captions)
    results = Results.read(*given)
    table = {"table": TABLES[arguments.table](results)} if arguments.table else {}
    text = render(arguments.template, **results.context(), **table)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_program(main))
