"""Presses: which slots of a KV cache to keep. The methods are kvpress's; names, checks and mechanics are here.

`compression_ratio` is the fraction of slots REMOVED, as in kvpress.
"""

import dataclasses

from specpress.registry import PRESSES, resolve

__all__ = ["get_press", "list_presses"]


def get_press(name: str, *, compression_ratio: float = 0.0, **params):
    """The press called `name`, set up.

    Parameters
    ----------
    name : str, one of `list_presses()`
    compression_ratio : float in [0, 1), fraction of slots removed
    params : the press's own parameters

    Raises
    ------
    ValueError
        Unknown name (lists the known ones), ratio outside [0, 1), unknown parameter (lists the press's own).
    """
    press = resolve(PRESSES, name, "press")
    if not 0 <= compression_ratio < 1:
        raise ValueError(f"compression_ratio is the fraction removed and must lie in [0, 1), got {compression_ratio}")
    known = [field.name for field in dataclasses.fields(press) if field.init]
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise ValueError(f"press {name!r} has no parameter {', '.join(unknown)}; it has {', '.join(known)}")
    return press(compression_ratio=compression_ratio, **params)


def list_presses() -> dict[str, dict]:
    """Known presses: name -> {"class", "summary", "parameters" (name -> default)}."""
    return {name: _describe(resolve(PRESSES, name, "press")) for name in sorted(PRESSES)}


def _describe(press: type) -> dict:
    summary = next(line.strip() for line in press.__doc__.splitlines() if line.strip())
    parameters = {field.name: field.default for field in dataclasses.fields(press) if field.init}
    return {"class": f"{press.__module__.split('.')[0]}.{press.__name__}", "summary": summary, "parameters": parameters}
