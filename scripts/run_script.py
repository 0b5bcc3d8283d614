"""Run a script of the paper, a figure's or that of a template, as a fork of a process that has imported what all do."""

import argparse
import runpy
import sys

from specpress.files.warm import PAPER, run_warm


def main() -> None:
    """Parse the command line; the script ends the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own")
    args = parser.parse_args()
    sys.argv = [args.script, *args.arguments]
    runpy.run_path(args.script, run_name="__main__")


if __name__ == "__main__":
    sys.exit(run_warm(main, *PAPER))
