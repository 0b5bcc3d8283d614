"""The original study's claims, decided from intervals alone: three verdicts, each with its reason.

Every function takes intervals as (low, high) pairs, one a setting; an end that is missing decides nothing. A verdict is
about the settings that were measured, and about nothing else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from specpress.paper.decisions import ABOVE, BELOW, UNDECIDED, UNDEFINED, side

HOLDS, FAILS, OPEN = "holds here", "does not hold here", "not decidable here"

Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class Verdict:
    """What this study says of a claim, and why, as a clause."""

    verdict: str
    reason: str


def unmeasured(what: str) -> Verdict:
    """The verdict where the study holds no experiment that could decide."""
    return Verdict(OPEN, f"this study does not measure {what}")


def reaches(intervals: Sequence[Interval], factor: float) -> Verdict:
    """A claim of "up to `factor`": one setting that reaches it is enough, and all must miss it for it to fail."""
    sides = [side(*interval, factor) for interval in intervals]
    if ABOVE in sides:
        return Verdict(HOLDS, f"an interval lies entirely above {factor:g}")
    if sides and all(found == BELOW for found in sides):
        return Verdict(FAILS, f"every interval lies entirely below {factor:g}")
    if UNDECIDED in sides:
        return Verdict(OPEN, f"an interval contains {factor:g}")
    return Verdict(OPEN, "a setting has no interval" if BELOW in sides else "there is no interval")


def adds_about(interval: Interval, factor: float) -> Verdict:
    """A claim of a gain of about `factor` (above 1): a gain must be shown, and one of that size must be possible."""
    low, high = interval
    found = side(low, high)
    if found == UNDEFINED:
        return Verdict(OPEN, "there is no interval")
    percent = f"{100 * (factor - 1):.0f}%"
    if found == ABOVE:
        if high >= factor:
            return Verdict(HOLDS, f"the interval lies above one and reaches a gain of {percent}")
        return Verdict(FAILS, f"there is a gain, but the whole interval lies below {percent}")
    if high < factor:
        return Verdict(FAILS, f"the interval shows no gain, and excludes one of {percent}")
    return Verdict(OPEN, f"the interval contains both no gain and one of {percent}")


def is_on(claimed: str, interval: Interval, what: str) -> Verdict:
    """A claim that a ratio lies above, or below, one."""
    found = side(*interval)
    if found == UNDEFINED:
        return Verdict(OPEN, f"there is no interval of the {what}")
    if found == UNDECIDED:
        return Verdict(OPEN, f"the interval of the {what} contains one")
    return Verdict(HOLDS if found == claimed else FAILS, f"the interval of the {what} lies entirely {found} one")


def best_of_all(ratios: Iterable[Interval], names: Iterable[str]) -> Verdict:
    """A claim that one method beats every other: all (other over it) ratios above one; one below refutes it."""
    sides = {name: side(*interval) for name, interval in zip(names, ratios, strict=True)}
    named = {found: " and ".join(name for name in sides if sides[name] == found) for found in sides.values()}
    if not sides:
        return Verdict(OPEN, "there is no other to compare with")
    if BELOW in named:
        return Verdict(FAILS, f"better: {named[BELOW]}")
    if set(named) == {ABOVE}:
        return Verdict(HOLDS, "every other interval lies entirely above one")
    if UNDECIDED in named:
        return Verdict(OPEN, f"not told apart from {named[UNDECIDED]}")
    return Verdict(OPEN, f"there is no interval for {named[UNDEFINED]}")


def both(first: Verdict, second: Verdict) -> Verdict:
    """A claim in two parts: it fails with either, and holds with both."""
    for verdict in (FAILS, OPEN):
        reasons = [part.reason for part in (first, second) if part.verdict == verdict]
        if reasons:
            return Verdict(verdict, "; ".join(reasons))
    return Verdict(HOLDS, f"{first.reason}; {second.reason}")


def everywhere(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict over several settings: that of all, or open where they contradict each other.

    A setting that refutes a general claim is enough when no setting supports it; one that leaves it open is enough for
    it to stay open otherwise.
    """
    found = {verdict.verdict for verdict in verdicts}
    if not found or {HOLDS, FAILS} <= found:
        return Verdict(OPEN, "the settings contradict each other" if found else "there is no setting")
    decisive = next(verdict for verdict in (FAILS, OPEN, HOLDS) if verdict in found)
    reasons = dict.fromkeys(verdict.reason for verdict in verdicts if verdict.verdict == decisive)
    return Verdict(decisive, "; ".join(reasons))
