"""Measure how far rounding moves a model's logits and write it as JSON."""

import argparse
import json
import sys
from pathlib import Path

from specpress.files.warm import MODELS, run_warm


def main() -> int:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="the record's id and model, as JSON")
    parser.add_argument("--model", required=True, type=Path, metavar="DIR", help="the model")
    parser.add_argument("--threads", type=int, default=1, help="threads torch may use (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="as the experiments will run (default: %(default)s)")
    parser.add_argument("--eager", action="store_true", help="on CUDA, run decoding steps without CUDA graphs")
    parser.add_argument("--output", required=True, type=Path, help="the file to write")
    args = parser.parse_args()

    from specpress.experiments.rounding import calibrate  # after parsing: torch takes seconds to import

    how = {"threads": args.threads, "device": args.device, "cuda_graphs": not args.eager}
    record = calibrate(args.spec, args.model, **how)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_warm(main, *MODELS))
