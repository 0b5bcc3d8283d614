"""Check a study file, and say everything that is wrong with it, before anything is made."""

import argparse
import sys
from pathlib import Path

from specpress.files.program import run_program
from specpress.paper.typesetting.glyphs import unknown_characters
from specpress.study.load import read_study


def main() -> None:
    """Parse the command line, check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True, metavar="FILE")
    study = read_study(parser.parse_args().study)
    chains = [spec["steps"] for spec in study.experiments.values() if spec["kind"] == "chain"]
    titles = "".join(step["title"] for steps in chains for step in steps)
    if unknown := unknown_characters(titles):
        print(
            f"note: no font on this machine has {', '.join(unknown)}: the PDF will show their codes, figures boxes. "
            "The package fonts-unifont has nearly every character. HTML shows them as typed",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(run_program(main))
