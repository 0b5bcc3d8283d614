"""What each part of a method's rounds costs in baseline steps, from brackets: parts set between two of those steps.

Costs belong to the machine: whatever slows the machine for a while slows a part and its neighbours alike, and cancels
in their ratio. docs/measuring.md compares estimators and says why it is this one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_BRACKETS = 6  # of a kind that stands for itself; the others lie on the line through those that do
_BLOCK = 6  # consecutive brackets that are resampled together: what disturbs one often disturbs the next
_LEAST_BLOCKS = 8

Kind = tuple[str, int]  # a part and its size


@dataclass(frozen=True)
class Brackets:
    """Parts of a method, each between two baseline steps, in the order they were taken.

    part, size : what it was: see `specpress.decoding.generation.Part`
    seconds, before, after : of the part, and of the steps next to it
    """

    part: Sequence[str]
    size: Sequence[int]
    seconds: Sequence[float]
    before: Sequence[float]
    after: Sequence[float]

    @classmethod
    def from_columns(cls, columns: Mapping) -> "Brackets":
        """The brackets of a metrics file, whatever other columns it has."""
        return cls(*(columns[name] for name in ("part", "size", "seconds", "before", "after")))

    def __len__(self) -> int:
        return len(self.part)


def log_ratios(brackets: Brackets) -> np.ndarray:
    """Log of each part over the step before it and over the step after it, float (brackets, 2).

    Two neighbours are as likely to be disturbed one as the other, so that for parts that cost a step the ratio lies
    above 1 as often as below, however skewed the disturbance; over the mean of two steps it would not.
    """
    seconds, before, after = (np.asarray(x, float) for x in (brackets.seconds, brackets.before, brackets.after))
    return np.log(seconds)[:, None] - np.log(np.stack([before, after], 1))


def costs(brackets: Brackets, kinds: Sequence[Kind]) -> dict[Kind, float]:
    """The cost of each of `kinds` in baseline steps; kinds whose part was never measured are left out."""
    return Costs(brackets, kinds).of_sample(np.arange(len(brackets)))


class Costs:
    """The brackets by kind, ready to be resampled."""

    def __init__(self, brackets: Brackets, kinds: Sequence[Kind]):
        self.logs = log_ratios(brackets)
        measured = list(zip(brackets.part, map(int, brackets.size), strict=True))
        self.kinds = list(dict.fromkeys([*measured, *kinds]))
        number = {kind: i for i, kind in enumerate(self.kinds)}
        self.of = np.array([number[kind] for kind in measured], int)

    def of_sample(self, chosen: np.ndarray) -> dict[Kind, float]:
        """From the brackets with these indices, LongTensor-like (n,), repeats allowed."""
        of, logs = self.of[chosen], self.logs[chosen]
        order = np.argsort(of, kind="stable")
        of, logs = of[order], logs[order]
        edges = np.searchsorted(of, np.arange(len(self.kinds) + 1))
        groups = {kind: logs[edges[i] : edges[i + 1]] for i, kind in enumerate(self.kinds)}
        numbers = {kind: len(group) for kind, group in groups.items()}
        medians = {kind: float(np.exp(np.median(group))) for kind, group in groups.items() if len(group)}
        found = {}
        for kinds in self.by_part().values():
            found |= _part_costs(medians, {kind: numbers[kind] for kind in kinds})
        return found

    def by_part(self) -> dict[str, list[Kind]]:
        """The kinds of each part."""
        parts: dict[str, list[Kind]] = {}
        for kind in self.kinds:
            parts.setdefault(kind[0], []).append(kind)
        return parts

    def of_samples(self, times: np.ndarray) -> np.ndarray:
        """`of_sample` of many samples at once: float (samples, kinds), NaN where a kind's part was never measured.

        times : int (samples, brackets), how often each bracket is in each sample

        The median of repeated values is where their running count, in the order of the values, passes the half.
        """
        medians, numbers = np.full((len(times), len(self.kinds)), np.nan), np.zeros((len(times), len(self.kinds)), int)
        for i in range(len(self.kinds)):
            members = np.flatnonzero(self.of == i)
            values, owners = self.logs[members].ravel(), np.repeat(members, 2)
            order = np.argsort(values)
            running = times[:, owners[order]].cumsum(1)
            if not len(members) or not (total := running[:, -1]).any():
                continue
            ranks = ((total - 1) // 2, total // 2)
            middle = [values[order][(running > rank[:, None]).argmax(1)] for rank in ranks]
            medians[:, i] = np.where(total > 0, np.exp((middle[0] + middle[1]) / 2), np.nan)
            numbers[:, i] = total // 2
        for kinds in self.by_part().values():
            columns = [self.kinds.index(kind) for kind in kinds]
            for i in np.flatnonzero((numbers[:, columns] < LEAST_BRACKETS).any(1)):
                counted = dict(zip(kinds, numbers[i, columns].tolist(), strict=True))
                found = _part_costs(dict(zip(kinds, medians[i, columns].tolist(), strict=True)), counted)
                medians[i, columns] = [found.get(kind, np.nan) for kind in kinds]
        return medians


def _part_costs(medians: Mapping[Kind, float], numbers: Mapping[Kind, int]) -> dict[Kind, float]:
    """Cost by kind of one part: the median of a kind with enough brackets; for the others the line over sizes.

    `medians` of the kinds that have a bracket, `numbers` of brackets of every kind of the part.
    """
    known = {kind: medians[kind] for kind, number in numbers.items() if number >= LEAST_BRACKETS}
    rare = [kind for kind in numbers if kind not in known]
    if not rare:
        return known
    sampled = [kind for kind, number in numbers.items() if number]
    if not sampled:
        return {}
    base = list(known) if len(known) >= 2 else sampled
    line = _line([size for _, size in base], [medians[k] for k in base], [numbers[k] for k in base])
    least = min(medians[kind] for kind in sampled)
    return known | {kind: max(line(kind[1]), least) for kind in rare}


def _line(sizes: Sequence[int], values: Sequence[float], weights: Sequence[int]):
    """The straight line through values over sizes, by weighted least squares; level where there is one size."""
    sizes, values, weights = (np.asarray(x, float) for x in (sizes, values, weights))
    centre, mean = np.average(sizes, weights=weights), np.average(values, weights=weights)
    spread = np.average((sizes - centre) ** 2, weights=weights)
    slope = np.average((sizes - centre) * (values - mean), weights=weights) / spread if spread else 0.0
    return lambda size: float(mean + slope * (size - centre))


def blocks_of(brackets: int) -> list[np.ndarray]:
    """Consecutive brackets by index, in blocks that are resampled together; of few brackets in smaller ones."""
    length = max(1, min(_BLOCK, brackets // _LEAST_BLOCKS))
    return np.array_split(np.arange(brackets), max(1, brackets // length))
