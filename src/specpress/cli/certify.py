"""`specpress certify`: whether drafters leave the law of the text as it is.

A drafter is lossless if the text it helps to write follows the law of the model alone. Over three tokens everything it
can propose and every outcome of the verification is enumerated, which finds a law that is wrong by any amount; then the
engine writes text with it, over six tokens, whose joint law is tested, which finds what only shows from round to round.
"""

import argparse
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from specpress.study.registry import DRAFTERS, resolve

_ROUNDS = 2000
EXAMPLE = """\
examples:
  specpress certify                                     every drafter of the registry
  specpress certify --drafter draft_model               one of them
  specpress certify --drafter my_drafters:Successors    your own: class Successors in my_drafters.py, here
  specpress certify --drafter my_drafters:Successors --verification my_rules:rule

A class is called without arguments; of its parameters without defaults those are filled in that registered drafters
have (model, press, drafter, ...). In place of a class a function that returns a drafter will do. A rule of your own is
a function like those in specpress.speculation.verification. The exit status is 1 if anything is broken.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--drafter", metavar="NAME", help="a registered name, or MODULE:CLASS (default: all registered)"
    )
    parser.add_argument(
        "--verification", metavar="RULE", help="token, block, traversal, recursive or MODULE:FUNCTION (default: all)"
    )
    parser.add_argument(
        "--rounds", type=int, default=_ROUNDS, metavar="N", help="rounds of text to test (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Print a line for each drafter and rule; returns 1 if one of them is broken."""
    from specpress.certification.certificate import certify, fitting

    if args.rounds < 500:
        raise ValueError(f"--rounds must be at least 500, got {args.rounds}: fewer show little")
    broken = 0
    drafters, rule = list(_drafters(args.drafter)), _rule(args.verification)
    for name, kind in drafters:
        for verification in [rule] if rule else fitting(kind):
            try:
                found = certify(kind, verification, args.rounds)
            except Exception as error:
                if isinstance(error, ValueError) or not (":" in name or ":" in verification):
                    raise
                raise ValueError(f"{name}, {verification}: it fails with {type(error).__name__}: {error}") from error
            broken += found.broken is not None
            print(f"{name}, {verification}: {found}", flush=True)
    return int(broken > 0)


def _drafters(given: str | None) -> Iterator[tuple[str, type]]:
    if given is not None and ":" in given:
        yield given, _own(given)
        return
    for name in sorted(DRAFTERS) if given is None else [given]:
        yield name, resolve(DRAFTERS, name, "drafter")


def _rule(given: str | None) -> str | None:
    """The name of a rule, under which one of the user's own is registered."""
    from specpress.speculation.verification import RULES

    if given is not None and ":" in given:
        RULES[given] = _own(given)
    elif given is not None and given not in RULES:
        raise ValueError(f"unknown verification {given!r}; known: {', '.join(RULES)}, or MODULE:FUNCTION")
    return given


def _own(given: str):
    """What MODULE:NAME names; the module may lie in the current directory."""
    module, name = given.split(":", 1)
    if not module or not name:
        raise ValueError(f"{given!r} names nothing: give MODULE:NAME, such as my_drafters:Successors")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        own = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{given} cannot be found: {error}") from error
    except Exception as error:  # whatever a module of the user's does while it is imported
        raise ValueError(f"{given} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(own):
        raise ValueError(f"{given} is neither a class nor a function, but {type(own).__name__}")
    return own
