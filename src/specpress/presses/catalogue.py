"""Presses: which slots of a KV cache to keep. The methods are kvpress's; names, checks and mechanics are here.

`compression_ratio` is the fraction of slots REMOVED, as in kvpress.
"""

import copy
import inspect

from specpress.engine.compression_settings import Compression
from specpress.study.abilities import ABILITIES, REFUSED, Ability
from specpress.study.registry import PRESSES, resolve

__all__ = ["Compression", "get_press", "list_presses", "press_lines"]


def get_press(name: str, *, compression_ratio: float = 0.0, **params):
    """The press called `name`, set up.

    Parameters
    ----------
    name : str, one of `list_presses()`
    compression_ratio : float in [0, 1), fraction of slots removed; a wrapper hands it to the press inside it
    params : the press's own parameters. A wrapper's `press` is a press, a name, or a dict of a name and parameters;
        `presses` is a list of those.

    Raises
    ------
    ValueError
        Unknown name (lists the known ones), ratio outside [0, 1), unknown or missing parameter (lists the press's own),
        or a press that cannot run here (says why).
    """
    press = resolve(PRESSES, name, "press")
    ability = ABILITIES.get(name, Ability())
    if ability.status == REFUSED:
        raise ValueError(f"press {name!r} cannot run here: it {ability.reason}")
    if not 0 <= compression_ratio < 1:
        raise ValueError(f"compression_ratio is the fraction removed and must lie in [0, 1), got {compression_ratio}")
    known = _parameters(press)
    _check_names(name, params, known)
    if "press" in known:
        params["press"] = _inner(params["press"], compression_ratio)
    elif "presses" in known:
        params["presses"] = [_inner(inner) for inner in params["presses"]]
    if "compression_ratio" in known:
        params["compression_ratio"] = compression_ratio
    elif compression_ratio and "press" not in known:
        raise ValueError(f"press {name!r} takes no compression_ratio; it has {', '.join(known)}")
    try:
        return press(**params)
    except AssertionError as error:  # how kvpress refuses parameters
        raise ValueError(f"press {name!r}: {error}") from error


def _inner(press, compression_ratio: float = 0.0):
    """The press inside a wrapper, from itself, its name, or a dict of its name and parameters."""
    if isinstance(press, str):
        press = {"name": press}
    if isinstance(press, dict):
        return get_press(**{"compression_ratio": compression_ratio, **press})
    if compression_ratio:
        press = copy.copy(press)
        press.compression_ratio = compression_ratio
    return press


def _check_names(name: str, params: dict, known: dict) -> None:
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise ValueError(f"press {name!r} has no parameter {', '.join(unknown)}; it has {', '.join(known)}")
    wrapped = {"press", "presses"} & set(known) - set(params)
    missing = wrapped | {key for key, value in known.items() if value is inspect.Parameter.empty} - set(params)
    if missing:
        hint = f"; {wrapped.pop()} takes other presses, by name or as {{name: ..., ...}}" if wrapped else ""
        raise ValueError(f"press {name!r} needs {', '.join(sorted(missing))}{hint}")


def _parameters(press: type) -> dict:
    """Parameters of a press class: name -> default, `inspect.Parameter.empty` where there is none."""
    found = inspect.signature(press).parameters.values()
    return {parameter.name: parameter.default for parameter in found if not parameter.name.startswith("_")}


def list_presses() -> dict[str, dict]:
    """Every press of kvpress and the original study's: name -> what it is.

    Each is a dict of "class", "summary", "parameters" (name -> default, None where there is none), "status" (see
    `specpress.study.abilities`), "reason" for a status other than "evicts", "eager" (scores attention weights) and
    "wraps" (takes other presses).
    """
    return {name: _describe(name, resolve(PRESSES, name, "press")) for name in sorted(PRESSES)}


def press_lines() -> list[str]:
    """What `specpress list presses` prints: name, what the press can do here, and what it is or why not."""
    lines = []
    for name, info in list_presses().items():
        notes = [info["summary"], *([info["reason"]] if info["reason"] else [])]
        notes += ["takes other presses"] if info["wraps"] else []
        lines.append(f"{name:26} {info['status']:24} {'; '.join(notes)}")
    return lines


def _describe(name: str, press: type) -> dict:
    ability = ABILITIES.get(name, Ability())
    parameters = _parameters(press)
    return {
        "class": f"{press.__module__.split('.')[0]}.{press.__name__}",
        "summary": next(line.strip() for line in press.__doc__.splitlines() if line.strip()),
        "parameters": {key: None if value is inspect.Parameter.empty else value for key, value in parameters.items()},
        "status": ability.status,
        "reason": ability.reason,
        "eager": ability.eager,
        "wraps": bool({"press", "presses"} & set(parameters)),
    }
