"""Check a study file, and say everything that is wrong with it, before anything is made."""

import argparse
import sys
from pathlib import Path

from specpress.files.program import run_program
from specpress.study.load import read_study


def main() -> None:
    """Parse the command line, check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True, metavar="FILE")
    read_study(parser.parse_args().study)


if __name__ == "__main__":
    sys.exit(run_program(main))
