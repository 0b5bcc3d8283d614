"""Measure what this machine sustains in the parts of a decoding step and write it as JSON."""

import argparse
import json
import sys
from pathlib import Path

from specpress.files.warm import MODELS, run_warm


def main() -> None:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="the record's id and model, as JSON")
    parser.add_argument("--model", required=True, metavar="DIR", help="the model whose shapes to benchmark")
    parser.add_argument("--device", default="auto", help="as the experiments will run (default: %(default)s)")
    parser.add_argument("--eager", action="store_true", help="on CUDA, run decoding steps without CUDA graphs")
    parser.add_argument("--threads", type=int, default=1, help="threads torch may use (default: %(default)s)")
    parser.add_argument("--output", required=True, type=Path, help="the file to write")
    arguments = parser.parse_args()

    from transformers import AutoConfig  # after parsing: it takes seconds to import

    from specpress.experiments.machine import measure
    from specpress.hardware.devices import claim, resolve_device

    config = AutoConfig.from_pretrained(arguments.model)
    how = {"threads": arguments.threads, "cuda_graphs": not arguments.eager}
    device = claim(resolve_device(arguments.device))
    record = measure(arguments.spec, config, dtype=config.dtype, device=device, **how)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    sys.exit(run_warm(main, *MODELS))
