"""Print what a study takes: downloads, disk, memory and hours on a named GPU. Nothing is downloaded."""

import argparse
import sys
from pathlib import Path

from specpress.files.program import run_program
from specpress.study.estimates import GPUS, machine
from specpress.study.load import read_study
from specpress.study.plan import report


def main() -> None:
    """Parse the command line, print the plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True, metavar="FILE")
    parser.add_argument("--gpu", default="a100-40gb", help=f"one of {', '.join(GPUS)} (default: %(default)s)")
    arguments = parser.parse_args()
    study = read_study(arguments.study)
    print(report(study, machine(arguments.gpu, graphs=not study.eager)))


if __name__ == "__main__":
    sys.exit(run_program(main))
