"""Make the pages of the HTML report that are no figures, and the captions of those that are."""

import argparse
import json
from pathlib import Path

import yaml

from specpress.provenance.archive import open_results
from specpress.provenance.numbers import read_numbers
from specpress.report.pages import environment_page, numbers_page, study_page, table_page
from specpress.tex.html import captions, equation_numbers, html, printed_numbers


def main() -> None:
    """Read a study's results and the paper's LaTeX, write a page each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, metavar="DIR", help="the results of the study")
    parser.add_argument("--texts", nargs="+", type=Path, required=True, metavar="TEX", help="where the captions are")
    parser.add_argument("--contents", type=Path, required=True, metavar="YAML", help="what the paper is made of")
    parser.add_argument("--tables", nargs="*", default=[], metavar="NAME", help="tables of the paper")
    parser.add_argument("--study", type=Path, required=True, metavar="YAML", help="the study file")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    stored = open_results(arguments.results)
    texts = [path.read_text(encoding="utf-8") for path in arguments.texts]
    printed = printed_numbers(stored.text("numbers.tex")) | equation_numbers(texts)
    found = captions(texts)
    of_report = yaml.safe_load(arguments.contents.read_text(encoding="utf-8"))["report"]
    for kind, items in of_report.items():
        found |= {f"{kind}/{name}": item["caption"] for name, item in items.items()}
    pages = {
        "captions.json": json.dumps(
            {name: " ".join(html(tex, printed).split()) for name, tex in found.items()}, indent=1
        ),
        "numbers.html": numbers_page(read_numbers(stored).values()),
        "environment.html": environment_page(json.loads(stored.text("analysis/environment.json"))),
        "study.html": study_page(arguments.study.read_text(encoding="utf-8")),
    }
    for name in arguments.tables:
        caption = found.get(f"tables/{name}", "")
        pages[f"tables/{name}.html"] = table_page(name, stored.text(f"tables/{name}.tex"), caption, printed)
    for name, text in pages.items():
        path = arguments.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
