"""Print the licences of a study's models and data and of the packages installed here. Nothing is downloaded."""

import argparse
import sys
from importlib.metadata import distributions
from pathlib import Path

import yaml

from specpress.files.program import run_program
from specpress.provenance.licences import rows, table
from specpress.study.load import read_study


def main() -> None:
    """Parse the command line, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True, metavar="FILE")
    parser.add_argument("--sources", type=Path, default=Path("paper/sources.yaml"), metavar="FILE")
    arguments = parser.parse_args()
    sources = yaml.safe_load(arguments.sources.read_text(encoding="utf-8"))
    print(table(rows(read_study(arguments.study), sources, distributions())))


if __name__ == "__main__":
    sys.exit(run_program(main))
