"""How `specpress generate` is to decode: drafter, schedule, verification and press, as a study names them."""

import argparse
import warnings
from collections.abc import Callable
from typing import Any

from specpress.study.checks.arms import arm_problems
from specpress.study.expansion import branches
from specpress.study.reading import parse_yaml
from specpress.study.registry import SCHEDULES

_MAPPING = "NAME or '{name: NAME, OPTION: VALUE, ...}', as in a study"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that describe the method."""
    group = parser.add_argument_group("drafting and verification")
    group.add_argument(
        "--draft", metavar="PATH", help="draft model or feature head; without a drafter, decode autoregressively"
    )
    group.add_argument("--prompt-lookup", action="store_true", help="draft by n-gram lookup instead of a model")
    group.add_argument("--drafter", metavar="DRAFTER", help=f"any drafter: {_MAPPING}; a model in it is a path")
    group.add_argument(
        "--gamma",
        type=int,
        metavar="N",
        help="drafted tokens a round, with the constant schedule (default: 4, 12 of a tree)",
    )
    group.add_argument(
        "--schedule",
        metavar="SCHEDULE",
        help=f"any schedule: {_MAPPING} (default: confidence with --draft, which stops once the draft is unsure, else "
        f"constant). Known: {', '.join(sorted(SCHEDULES))}",
    )
    group.add_argument(
        "--verification",
        metavar="RULE",
        help="token or block; traversal or recursive, which take trees too (default: token; traversal for trees)",
    )
    group = parser.add_argument_group("compression of the target's cache")
    group.add_argument("--press", metavar="PRESS", help=f"any press: {_MAPPING}")
    group.add_argument("--ratio", type=float, metavar="R", help="fraction of the cache that the press removes")
    group.add_argument(
        "--cache-budget", type=int, metavar="SLOTS", help="compress while decoding too, to so many slots"
    )
    group.add_argument("--compression-interval", type=int, metavar="N", help="tokens between compressions")


def arm_from(args: argparse.Namespace) -> dict:
    """The method as an arm of an experiment, whose models are paths (see `specpress.experiments.duels.arms`).

    Raises
    ------
    ValueError
        For arguments that exclude each other, are no name and no mapping, or that a study would not take either.
    """
    arm: dict[str, Any] = {"model": args.model}
    drafter = _drafter(args)
    if drafter is not None:
        arm |= {"drafter": drafter, "schedule": _schedule(args, drafter)}
    elif any(given is not None for given in (args.schedule, args.gamma, args.verification)):
        raise ValueError("--schedule, --gamma and --verification need a drafter: --draft, --prompt-lookup or --drafter")
    if args.verification is not None:
        arm["verification"] = args.verification
    elif drafter is not None and branches(drafter):
        arm["verification"] = "traversal"
    if args.press is not None:
        arm["press"] = _part(args.press, "--press")
        if args.ratio is not None:
            arm["press"] |= {"compression_ratio": args.ratio}
    given = {"cache_budget": args.cache_budget, "compression_interval": args.compression_interval}
    for name, value in {"ratio": args.ratio, **given}.items():
        if value is not None and args.press is None:
            raise ValueError(f"--{name.replace('_', '-')} is for a press: give --press too")
    arm |= {name: value for name, value in given.items() if value is not None}
    if found := arm_problems(arm):
        raise ValueError("; ".join(found))
    return arm


def _drafter(args: argparse.Namespace) -> dict | None:
    given = [flag for flag in ("draft", "prompt_lookup", "drafter") if getattr(args, flag) not in (None, False)]
    if len(given) > 1:
        flags = " and ".join(f"--{flag.replace('_', '-')}" for flag in given)
        raise ValueError(f"{flags} exclude each other: give one of them")
    if args.draft is not None:
        return {"name": "draft_model", "model": args.draft}
    if args.prompt_lookup:
        return {"name": "prompt_lookup"}
    return None if args.drafter is None else _part(args.drafter, "--drafter")


def _schedule(args: argparse.Namespace, drafter: dict) -> dict:
    unsaid = "confidence" if drafter["name"] == "draft_model" and args.gamma is None else "constant"
    part = _part(unsaid if args.schedule is None else args.schedule, "--schedule")
    if part["name"] == "constant":
        return {"gamma": 12 if branches(drafter) else 4} | part | ({} if args.gamma is None else {"gamma": args.gamma})
    if args.gamma is not None:
        raise ValueError(f"--gamma is for the constant schedule; {part['name']} chooses its own: leave one of them out")
    return part


def _part(text: str, flag: str) -> dict:
    """A name, or a mapping with a name."""
    value = parse_yaml(text, f"{flag} {text!r}")
    part = {"name": value} if isinstance(value, str) else value
    if not isinstance(part, dict) or not isinstance(part.get("name"), str):
        raise ValueError(f"{flag}: {text!r} is no {_MAPPING}")
    return part


class Loaded:
    """The models of an arm by path, each loaded once: what `specpress.experiments.duels.arms` asks its assets for."""

    def __init__(self):
        self._pairs: dict[str, tuple] = {}

    def pair(self, path: str) -> tuple:
        """Model and tokenizer."""
        from specpress import load_model

        if not path:
            raise ValueError("the path of a model is empty: give its directory, the one that holds config.json")
        if path not in self._pairs:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".* load_model returns None for it")  # an error, or no matter
                self._pairs[path] = load_model(path)
        return self._pairs[path]

    def model(self, path: str):
        """The model."""
        return self.pair(path)[0]

    def of_text(self, make: Callable, data: str, model: str):
        """Refuses: `warm` and `corpus` of a drafter name a data set of a study, and here is none."""
        raise ValueError(f"--drafter: {data!r} names a data set of a study, and there is none here: leave it out")
