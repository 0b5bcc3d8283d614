"""What an interval says: above, below, undecided; never read off the estimate alone."""

from collections.abc import Iterable

from specpress.analysis.formatting import is_missing

ABOVE, BELOW, UNDECIDED, UNDEFINED = "above", "below", "undecided", "undefined"


def side(low: float | None, high: float | None, of: float = 1.0) -> str:
    """Where an interval lies: entirely above `of`, entirely below, around it (undecided); undefined without one."""
    if is_missing(low) or is_missing(high):
        return UNDEFINED
    if low > of:
        return ABOVE
    return BELOW if high < of else UNDECIDED


def side_counts(sides: Iterable[str]) -> dict[str, int]:
    """How many lie `above`, `below`, or neither (`open`), of `all`."""
    sides = list(sides)
    counts = {name: sides.count(name) for name in (ABOVE, BELOW)}
    return counts | {"open": len(sides) - sum(counts.values()), "all": len(sides)}


def overlap(one, other) -> bool | None:
    """Whether the intervals of two cells have a value in common; None where one has no interval."""
    if any(is_missing(end) for end in (one.low, one.high, other.low, other.high)):
        return None
    return one.low <= other.high and other.low <= one.high


def speed_phrase(cell) -> str:
    """What an interval of a speed-up says about the method, as the predicate of a sentence."""
    return {
        ABOVE: "is faster than the cached baseline",
        BELOW: "is slower than the cached baseline",
        UNDECIDED: "is not distinguishable from the cached baseline",
        UNDEFINED: "cannot, for want of an interval, be told from the cached baseline",
    }[cell.side()]


def perplexity_phrase(cell) -> str:
    """What an interval of a perplexity ratio says, as the predicate of a sentence."""
    return {
        ABOVE: "raises perplexity",
        BELOW: "gives a lower perplexity than the full cache, which calls for an explanation before it is believed",
        UNDECIDED: "does not change perplexity by an amount this study can tell",
        UNDEFINED: "cannot be judged for want of an interval",
    }[cell.side()]


def relative_phrase(cell) -> str:
    """What an interval of a ratio of speeds says, as the predicate of a sentence."""
    return {
        ABOVE: "is a gain",
        BELOW: "is a loss",
        UNDECIDED: "is neither a gain nor a loss that this study can tell",
        UNDEFINED: "has no interval to judge it by",
    }[cell.side()]
