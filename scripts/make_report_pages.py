"""Make the pages of the HTML report that are no figures, its first one among them, and the captions of the figures."""

import argparse
import json
import sys
from pathlib import Path

from specpress.files.program import run_program
from specpress.paper.results import Results
from specpress.paper.tables import TABLES
from specpress.paper.typesetting.rendering import render
from specpress.provenance.archive import open_results
from specpress.provenance.numbers import read_numbers
from specpress.report.pages import Figure, environment_page, numbers_page, study_page, table_page


def main() -> None:
    """Read a study's results, write a page each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, metavar="DIR", help="the results of the study")
    parser.add_argument("--original", type=Path, required=True, metavar="YAML", help="what the original study reported")
    parser.add_argument("--sources", type=Path, required=True, metavar="YAML", help="what models and data are called")
    parser.add_argument("--captions", type=Path, required=True, metavar="YAML", help="captions of figures and tables")
    parser.add_argument("--layout", type=Path, required=True, metavar="J2", help="the template of every table")
    parser.add_argument("--front", type=Path, required=True, metavar="J2", help="the template of the first page")
    parser.add_argument("--figure", type=Path, required=True, metavar="SVG", help="the figure on the first page")
    parser.add_argument("--tables", nargs="*", default=[], metavar="NAME", help="tables of paper and report")
    parser.add_argument("--study", type=Path, required=True, metavar="YAML", help="the study file")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    stored, analysis = open_results(arguments.results), arguments.results / "analysis"
    written = (arguments.original, arguments.sources, arguments.captions)
    results = Results.read(analysis / "summary.csv", analysis / "environment.json", *written)
    captions = results.all_captions
    shown = Figure.read(arguments.figure, captions[f"figures/{arguments.figure.stem}"])
    pages = {
        "front.html": render(arguments.front, **results.context(), figure=shown),
        "captions.json": json.dumps({name: caption.text for name, caption in captions.items()}, indent=1),
        "numbers.html": numbers_page(read_numbers(stored).values()),
        "environment.html": environment_page(results.environment),
        "study.html": study_page(arguments.study.read_text(encoding="utf-8")),
    }
    for name in arguments.tables:
        table = render(arguments.layout, table=TABLES[name](results))
        pages[f"tables/{name}.html"] = table_page(captions[f"tables/{name}"], table)
    for name, text in pages.items():
        path = arguments.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_program(main))
