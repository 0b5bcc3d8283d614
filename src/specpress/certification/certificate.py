"""A drafter under a rule of verification: lossless, or the law that it breaks."""

from collections.abc import Callable
from dataclasses import dataclass

from specpress.certification import enumerated, sampled
from specpress.certification.small import FAMILIES, maker
from specpress.speculation.drafter import Drafter
from specpress.speculation.verification import OF_PATHS, OF_TREES, RULES


@dataclass(frozen=True)
class Certificate:
    """What was found. `enumerated` is None where a drafter cannot be enumerated, `why` says why."""

    enumerated: enumerated.Finding | None
    why: str | None
    sampled: sampled.Finding | None

    @property
    def broken(self) -> str | None:
        """What is wrong; None: nothing is."""
        findings = [found for found in (self.enumerated, self.sampled) if found]
        if not any(found.drafted or found.broken for found in findings):
            return "nothing was drafted on small texts, so that nothing is certified"
        return next((found.broken for found in findings if found.broken), None)

    def __str__(self) -> str:
        if self.broken:
            return f"BROKEN: {self.broken}"
        if self.enumerated:
            parts = [f"{self.enumerated.proposals} proposals enumerated, off by {self.enumerated.off:.0e}"]
        else:
            parts = [f"not enumerated: {self.why}"]
        if self.sampled:
            parts.append(f"{self.sampled.rounds} rounds of text, p = {self.sampled.p:.2g}")
        return f"lossless ({'; '.join(parts)})"


def certify(kind: Callable[..., Drafter], verification: str, rounds: int) -> Certificate:
    """Enumerate a class of drafters under a rule, then test the text of `rounds` rounds of the engine.

    Raises
    ------
    ValueError
        If the drafter cannot be made, or does not go with the rule.
    """
    found, why = None, None
    try:
        found = enumerated.certify(lambda family: maker(kind, family), RULES[verification])
    except enumerated.NotEnumerableError as error:
        why = str(error)
    if found and found.broken:
        return Certificate(found, why, None)
    text = sampled.certify(lambda family: maker(kind, family, sampled.VOCABULARY), verification, rounds)
    return Certificate(found, why, text)


def fitting(kind: Callable[..., Drafter]) -> tuple[str, ...]:
    """The rules for a drafter: those of trees if it branches, else those of paths."""
    drafter = maker(kind, FAMILIES[0])()
    if not isinstance(drafter, Drafter):
        raise ValueError(f"{type(drafter).__name__} is no drafter: derive it from specpress.drafters.Drafter")
    return OF_TREES if drafter.branches else OF_PATHS
