"""Collect the metrics of a study into two tidy tables and the description of where they were measured."""

import argparse
import json
import sys
from pathlib import Path

from specpress.analysis.loading import load_metrics
from specpress.analysis.provenance import environment
from specpress.analysis.tables import observations, summary
from specpress.files.program import run_program


def parse_arguments() -> argparse.Namespace:
    """The command line of this rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", nargs="+", required=True, metavar="JSON", help="metrics of experiments and drafts")
    for kind in ("model", "draft", "data"):
        parser.add_argument(
            f"--{kind}",
            action="append",
            default=[],
            metavar="NAME=MANIFEST",
            help=f"manifest.json of a {kind}; repeats",
        )
    parser.add_argument("--observations", required=True, metavar="CSV", help="output: one row a prompt and metric")
    parser.add_argument("--summary", required=True, metavar="CSV", help="output: one row an experiment and metric")
    parser.add_argument("--environment", required=True, metavar="JSON", help="output: hardware, versions, sources")
    return parser.parse_args()


def manifests(named: list[str]) -> dict[str, dict]:
    """The manifests given as NAME=FILE, read."""
    pairs = (item.partition("=")[::2] for item in named)
    return {name: json.loads(Path(path).read_text(encoding="utf-8")) for name, path in pairs}


def main() -> None:
    """Read, compute, write."""
    arguments = parse_arguments()
    metrics = load_metrics(arguments.metrics)
    described = environment(
        metrics,
        models=manifests(arguments.model),
        drafts=manifests(arguments.draft),
        data=manifests(arguments.data),
    )
    for output in (arguments.observations, arguments.summary, arguments.environment):
        Path(output).parent.mkdir(parents=True, exist_ok=True)
    observations(metrics).to_csv(arguments.observations, index=False)
    summary(metrics, described["models"] | described["drafts"]).to_csv(arguments.summary, index=False)
    text = json.dumps(described, indent=2, sort_keys=True, ensure_ascii=False)
    Path(arguments.environment).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_program(main))
