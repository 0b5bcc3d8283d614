"""The command `specpress`: generate text and see what it cost; train a draft; list what there is; look into results."""

import argparse
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from specpress.cli import certify, generate, listing, new, train
from specpress.files.program import run_program
from specpress.provenance import archive, compare, explain

# A command is a module with `add_arguments` and `run`, whose docstring is "`specpress NAME`: what it does. More.", and
# which may have an `EXAMPLE`. What takes long to import it imports in `run`.
COMMANDS = {
    "generate": generate, "train": train, "list": listing, "certify": certify,
    "new": new,
    "explain": explain, "compare": compare, "archive": archive,
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: see `specpress.files.program`."""
    return run_program(lambda: _run(arguments), "specpress")


def _run(arguments: list[str] | None) -> int:
    args = _parser().parse_args(arguments)
    return args.run(args)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with an argument in one line, as everything else is said."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="specpress", description=__doc__)
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        does = module.__doc__.partition(": ")[2]
        epilog = getattr(module, "EXAMPLE", None)
        command = commands.add_parser(name, help=does.partition(".")[0], description=does, epilog=epilog)
        command.set_defaults(run=module.run)
        module.add_arguments(command)
    return parser


def _version() -> str:
    try:
        return f"specpress {version('specpress')}"
    except PackageNotFoundError:  # on the path alone, as a checkout beside an environment of its own
        return "specpress, not installed: `make setup` does that"


if __name__ == "__main__":
    sys.exit(main())
