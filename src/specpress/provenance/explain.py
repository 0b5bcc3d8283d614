"""`specpress explain`: where a number of the paper comes from."""

import argparse
import difflib
import fnmatch
from collections.abc import Iterator

import yaml

from specpress.analysis import formatting
from specpress.provenance.archive import Stored, open_results
from specpress.provenance.numbers import Number, read_numbers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="a number, as numbers.tex names it: EXPERIMENT/METRIC; * and ? list all that match; without it, list all",
    )
    parser.add_argument(
        "--results",
        default="results",
        metavar="PATH",
        help="results/<study>, or an archive (default: results, if it has one study)",
    )


def run(args: argparse.Namespace) -> int:
    """Print where one number comes from, or list the numbers."""
    stored = open_results(args.results)
    numbers = read_numbers(stored)
    name = _without_part(args.name or "*", numbers)
    if name in numbers:
        print("\n".join(explanation(numbers[name], stored)))
        return 0
    matching = [numbers[found] for found in numbers if fnmatch.fnmatchcase(found, name)]
    if not matching:
        raise ValueError(unknown(name, numbers))
    width = max(len(number.name) for number in matching)
    for number in matching:
        print(f"{number.name:{width}}  {value_line(number)}")
    return 0


def unknown(name: str, numbers: dict[str, Number]) -> str:
    """What to say about a name that is not there: the nearest ones."""
    near = difflib.get_close_matches(name, numbers, n=3, cutoff=0.5)
    near = near or [found for found in numbers if name in found][:3]
    hint = f"did you mean {', '.join(near)}?" if near else "specpress explain lists the names"
    return f"no number is called {name!r}; {hint}"


def explanation(number: Number, stored: Stored) -> Iterator[str]:
    """The lines about one number: value, interval, files, what was run, and where."""
    row = number.row
    yield number.name
    yield f"  value        {value_line(number)}"
    if number.interval and "n" in row:
        units = {"perplexity": "passages", "tasks": "contexts"}.get(row["kind"], "prompts")
        yield f"  interval     95%, over {row['n']:g} {units}"
    if "estimate" in row:
        yield f"  unrounded    {row['estimate']!r} {row.get('unit', '')}".rstrip()
    if "estimate" in row and "note" in row:
        yield f"  note         {row['note']}"
    yield f"  computed as  {row['field']}"
    for name in number.files:
        yield from _source(name, stored)
    if str(row.get("metric", "")).startswith("lossless"):
        yield from _differences(stored.mapping(number.files[0]).get("lossless") or {})


def value_line(number: Number) -> str:
    """The value as the paper prints it, with its interval; why there is none, where there is none."""
    if "estimate" not in number.row:
        return f"not measured: {number.row.get('note', 'no reason is recorded')}"
    value, *ends = (
        formatting.number(number.row["metric"], each) for each in (number.row["estimate"], *(number.interval or ()))
    )
    return f"{value} [{', '.join(ends)}]" if ends else value


def _differences(lossless: dict) -> Iterator[str]:
    """The lines about the greedy texts that differ from the baseline's: where, by which tokens, and the verdict."""
    for found in lossless.get("differences", ()):
        where = f"prompt {found['prompt']}, row {found['row']}, new token {found['place']}"
        yield f"  difference   {where}: {found['verdict']}"
        if found["gaps"] is None:
            yield "               one of the texts ends here"
            continue
        (ours, theirs), (first, second) = found["tokens"], found["texts"]
        yield f"               baseline {first!r} ({ours}), method {second!r} ({theirs})"
        gaps = ", ".join(f"{gap:.4f} in {name}" for name, gap in found["gaps"].items())
        yield f"               logits apart by {gaps}; rounding explains up to {lossless['allowed']:.4f}"


def _source(name: str, stored: Stored) -> Iterator[str]:
    """The lines about one metrics file."""
    metrics = stored.mapping(name, "environment", "spec")
    environment = metrics["environment"]
    packages = environment.get("packages") or {}
    yield f"  metrics      {name} of {stored.label}"
    yield f"  commit       {environment.get('commit') or 'not recorded'}"
    yield f"  machine      {_listed(environment, 'cpu', 'accelerator', 'platform', 'device', 'dtype')}"
    yield f"               {_counts(environment)}"
    yield f"  software     Python {environment.get('python', '?')}, " + ", ".join(
        f"{k} {v}" for k, v in packages.items()
    )
    yield "  spec"
    for line in yaml.safe_dump(metrics["spec"], sort_keys=False, allow_unicode=True, width=110).splitlines():
        yield f"    {line}"


def _listed(environment: dict, *keys: str) -> str:
    return ", ".join(str(environment[key]) for key in keys if environment.get(key)) or "not recorded"


def _counts(environment: dict) -> str:
    parts = [f"{environment[key]} {key}" for key in ("cores", "threads") if environment.get(key)]
    memory = environment.get("memory_bytes")
    return ", ".join([*parts, *([f"{memory / 2**30:.1f} GiB of memory"] if memory else [])])


def _without_part(name: str, numbers: dict[str, Number]) -> str:
    """The name of a number without /low, /high or /n, which numbers.tex defines beside it."""
    whole, _, part = name.rpartition("/")
    return whole if part in ("low", "high", "n") and whole in numbers else name
