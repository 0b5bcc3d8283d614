"""Run one experiment of a study and write its metrics as JSON."""

import argparse
import json
import sys
from pathlib import Path

from specpress.files.warm import MODELS, run_warm


def main() -> int:
    """Parse the command line, run, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--spec", required=True, type=json.loads, help="the experiment, as JSON (see specpress.study.load)"
    )
    parser.add_argument("--model", action="append", default=[], metavar="NAME=DIR", help="a model or draft; repeatable")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=DIR", help="a data set; repeatable")
    parser.add_argument("--rounding", type=Path, metavar="JSON", help="how far rounding moves the baseline's logits")
    parser.add_argument("--threads", type=int, default=1, help="threads torch may use (default: 1)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... or mps (default: %(default)s)")
    parser.add_argument("--eager", action="store_true", help="on CUDA, run decoding steps without CUDA graphs")
    parser.add_argument("--output", required=True, type=Path, help="the metrics file to write")
    args = parser.parse_args()

    from specpress.experiments.run import run  # after parsing: torch takes seconds to import

    places = {"models": _folders(args.model), "data": _folders(args.data), "rounding": args.rounding}
    metrics = run(args.spec, **places, threads=args.threads, device=args.device, cuda_graphs=not args.eager)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    return 0


def _folders(pairs: list[str]) -> dict[str, Path]:
    return {name: Path(folder) for name, folder in (pair.split("=", 1) for pair in pairs)}


if __name__ == "__main__":
    sys.exit(run_warm(main, *MODELS))
