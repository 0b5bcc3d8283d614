"""Train a draft from the first layers of a target, on the train halves of the data sets it names."""

import argparse
import json
import sys

from specpress.files.warm import MODELS, run_warm
from specpress.study.draft_config import DraftConfig


def named_directory(text: str) -> tuple[str, str]:
    """NAME=DIR as a pair."""
    name, separator, directory = text.partition("=")
    if not (name and separator and directory):
        raise argparse.ArgumentTypeError(f"expected NAME=DIR, got {text!r}")
    return name, directory


def main() -> None:
    """Parse the command line, train, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=json.loads, required=True, metavar="JSON", help="the draft's keys and its name")
    parser.add_argument("--target", required=True, metavar="DIR")
    parser.add_argument(
        "--data",
        type=named_directory,
        action="append",
        required=True,
        metavar="NAME=DIR",
        help="once for each data set",
    )
    parser.add_argument("--threads", type=int, required=True, metavar="N")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... or mps (default: %(default)s)")
    parser.add_argument("--lessons", metavar="DIR", help="where what the target says is kept (default: in the output)")
    parser.add_argument("--output", required=True, metavar="DIR")
    arguments = parser.parse_args()
    config = DraftConfig.from_spec(arguments.spec)

    from specpress.training.train import train_draft  # after parsing: torch takes seconds to import

    places = (arguments.target, dict(arguments.data), arguments.output)
    metrics = train_draft(
        config, *places, threads=arguments.threads, device=arguments.device, lessons=arguments.lessons
    )
    for name, held_out in metrics["held_out"].items():
        print(f"{config.name}: acceptance {held_out['acceptance']:.3f} on held-out {name}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run_warm(main, *MODELS))
