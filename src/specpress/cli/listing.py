"""`specpress list`: presses, drafters and schedules, a line each."""

import argparse

from specpress.study.registry import DRAFTERS, PRESSES, SCHEDULES, resolve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("what", nargs="?", choices=("presses", "drafters", "schedules"), help="only these")


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    from specpress.presses import press_lines

    tables = {"presses": PRESSES, "drafters": DRAFTERS, "schedules": SCHEDULES}
    for what, table in tables.items():
        if args.what in (None, what):
            print(f"{what}:")
            lines = press_lines() if what == "presses" else _lines(table, what)
            print(*(f"  {line}" for line in lines), sep="\n")
    return 0


def _lines(table: dict[str, str], what: str) -> list[str]:
    return [f"{name:26} {_first_line(resolve(table, name, what))}" for name in sorted(table)]


def _first_line(thing: type) -> str:
    return next(line.strip() for line in thing.__doc__.splitlines() if line.strip())
