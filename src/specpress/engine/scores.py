"""Scores of slots that are computed once for presses that differ in their ratio alone.

From one prefill caches are compressed to many ratios. Most methods score the slots without a look at how many are to be
kept, so that all of these have the same scores; and scoring is most of what compressing costs.
"""

import copy
from collections.abc import Callable

from torch import Tensor

_PLAIN = (int, float, str, type(None))  # settings that tell one press from another


class Scores:
    """What presses have said to the slots of a cache, as it stands, layer by layer."""

    def __init__(self):
        self._found: dict[tuple, Tensor] = {}

    def of(self, scorer, place: tuple[int, int], score: Callable[..., Tensor]) -> Tensor:
        """The scores by `scorer`, a kvpress ScorerPress, of a layer and row: `score(scorer)`, or what it gave before.

        What it gives is kept if scoring reads no ratio and leaves the press as it was, and the press is told from
        others by its class and plain settings.
        """
        settings = {name: value for name, value in vars(scorer).items() if name != "compression_ratio"}
        if not all(isinstance(value, _PLAIN) for value in settings.values()):
            return score(scorer)
        key = (type(scorer), tuple(sorted(settings.items())), place)
        if key not in self._found:
            watched, touched = _watched(scorer)
            found = score(watched)
            if touched:
                return score(scorer) if vars(watched) != vars(scorer) else found
            self._found[key] = found
        return self._found[key]


def _watched(scorer) -> tuple:
    """A copy of a press, and the list of what will be read of its ratio and changed in it."""
    touched: list[str] = []

    class Watched(type(scorer)):
        def __getattribute__(self, name: str):
            if name == "compression_ratio":
                touched.append(name)
            return super().__getattribute__(name)

        def __setattr__(self, name: str, value) -> None:
            touched.append(name)
            super().__setattr__(name, value)

    copied = copy.copy(scorer)
    copied.__class__ = Watched
    return copied, touched
