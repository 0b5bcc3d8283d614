"""Write what experiments answered to questions in Spec-Bench's output format: a file a method, and one its baseline."""

import argparse
import json
import sys
from pathlib import Path

from specpress.analysis.loading import load_metrics
from specpress.analysis.spec_bench import lines_of
from specpress.files.program import run_program


def main() -> None:
    """Read the metrics, write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", nargs="+", required=True, metavar="JSON", help="metrics of speed experiments")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="where the .jsonl files go")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, lines in lines_of(load_metrics(arguments.metrics)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (arguments.output / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_program(main))
