"""What a duel says: the cost of each kind of part in baseline steps, the speed-up, and its two uncertainties.

A duel sets each part of a method's rounds between two steps of the baseline. Costs belong to the machine: whatever
slows the machine for a while slows a part and its neighbours alike, and cancels in their ratio. Tokens a round belong
to the text: they are counted, prompt by prompt. docs/measuring.md compares estimators and says why it is these.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from specpress.theory.intervals import CONFIDENCE, Estimate, joined, mean_error

LEAST_UNITS = 3  # prompts below which there is no interval
_LEAST_BRACKETS = 6  # of a class that stands for itself; the others lie on the line through those that do
_BLOCK = 6  # consecutive brackets that are resampled together: what disturbs one often disturbs the next
_LEAST_BLOCKS = 8
_RESAMPLES = 200
# Who stops when an interval has become narrow stops where the prompts happen to agree: it misses more often than it
# says. Simulated (docs/measuring.md), a look at 8 prompts at the earliest and errors a bit larger make up for it.
_FIRST_LOOK, _LOOKING = 8, 1.1

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


@dataclass(frozen=True)
class Text:
    """A prompt as the method decoded it: `tokens` after the first, in `rounds`, the number of parts of each kind."""

    tokens: int
    rounds: Mapping[Kind, int]


def together(texts: Iterable[tuple[Hashable, Text]]) -> dict[Hashable, Text]:
    """The texts by unit: those of one unit, such as the turns of a conversation, as one text."""
    found: dict[Hashable, Text] = {}
    for unit, text in texts:
        if unit in found:
            rounds = Counter(found[unit].rounds)
            rounds.update(text.rounds)
            text = Text(found[unit].tokens + text.tokens, rounds)
        found[unit] = text
    return found


@dataclass(frozen=True)
class Joint:
    """A log ratio with the standard errors that the machine and the text leave it, each with its degrees of freedom.

    value : mean log speed-up over the `n` prompts
    machine, text : standard errors of the costs and over the prompts
    skew : skewness of the mean over the prompts
    """

    value: float
    machine: float
    machine_freedom: float
    text: float
    text_freedom: float
    n: int
    skew: float = 0.0

    @property
    def error(self) -> float:
        """The standard error of both together."""
        return math.hypot(self.machine, self.text)

    @property
    def machine_share(self) -> float | None:
        """The machine's share of the variance; None where there is none, or no end of it."""
        return self.machine**2 / self.error**2 if 0 < self.error < math.inf else None

    def estimate(self, confidence: float = CONFIDENCE) -> Estimate:
        """The ratio with the interval that both leave it; for fewer than three prompts none, and the reason."""
        if self.n < LEAST_UNITS or not math.isfinite(self.error):
            few = f"fewer than {LEAST_UNITS} prompts" if self.n < LEAST_UNITS else "too few parts were measured"
            return Estimate(math.exp(self.value), None, None, self.n, f"{few}: no interval")
        errors = ((self.text, self.text_freedom, self.skew), (self.machine, self.machine_freedom, 0.0))
        parts = [Estimate(1.0, None, None, self.n, se=se, df=df, skew=skew) for se, df, skew in errors]
        return joined(math.exp(self.value), parts, (1, 1), n=self.n, confidence=confidence)

    def half_width(self, confidence: float = CONFIDENCE) -> float | None:
        """Half the width of the interval of the log ratio; None without one."""
        found = self.estimate(confidence)
        return None if found.high is None else math.log(found.high / found.value)

    def minus(self, other: "Joint", differences: np.ndarray) -> "Joint":
        """The difference from an estimate of other brackets; `differences` are of the logs, on prompts of both."""
        machine = math.hypot(self.machine, other.machine)
        freedom = welch_satterthwaite([(e.machine, e.machine_freedom) for e in (self, other)])
        return Joint(float(differences.mean()), machine, freedom, *_over_texts(differences))


def welch_satterthwaite(errors: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum, from the (standard error, degrees of freedom) of its terms."""
    terms = [(error**2, freedom) for error, freedom in errors if error > 0]
    if not terms:
        return max((freedom for _, freedom in errors), default=0.0)
    return sum(v for v, _ in terms) ** 2 / sum(v**2 / freedom if freedom > 0 else math.inf for v, freedom in terms)


def log_ratios(brackets: Brackets) -> np.ndarray:
    """Log of each part over the step before it and over the step after it, float (brackets, 2).

    Two neighbours are as likely to be disturbed one as the other, so that for parts that cost a step the ratio lies
    above 1 as often as below, however skewed the disturbance; over the mean of two steps it would not.
    """
    seconds, before, after = (np.asarray(x, float) for x in (brackets.seconds, brackets.before, brackets.after))
    return np.log(seconds)[:, None] - np.log(np.stack([before, after], 1))


def costs(brackets: Brackets, kinds: Sequence[Kind]) -> dict[Kind, float]:
    """The cost of each of `kinds` in baseline steps; kinds whose part was never measured are left out."""
    return _Classes(brackets, kinds).costs(np.arange(len(brackets)))


class _Classes:
    """The brackets by kind, ready to be resampled."""

    def __init__(self, brackets: Brackets, kinds: Sequence[Kind]):
        self.logs = log_ratios(brackets)
        measured = list(zip(brackets.part, map(int, brackets.size), strict=True))
        self.kinds = list(dict.fromkeys([*measured, *kinds]))
        number = {kind: i for i, kind in enumerate(self.kinds)}
        self.of = np.array([number[kind] for kind in measured], int)

    def costs(self, chosen: np.ndarray) -> dict[Kind, float]:
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

    def resampled(self, times: np.ndarray) -> np.ndarray:
        """`costs` of many samples at once: float (samples, kinds), NaN where a kind's part was never measured.

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
            for i in np.flatnonzero((numbers[:, columns] < _LEAST_BRACKETS).any(1)):
                counted = dict(zip(kinds, numbers[i, columns].tolist(), strict=True))
                found = _part_costs(dict(zip(kinds, medians[i, columns].tolist(), strict=True)), counted)
                medians[i, columns] = [found.get(kind, np.nan) for kind in kinds]
        return medians


def _part_costs(medians: Mapping[Kind, float], numbers: Mapping[Kind, int]) -> dict[Kind, float]:
    """Cost by kind of one part: the median of a kind with enough brackets; for the others the line over sizes.

    `medians` of the kinds that have a bracket, `numbers` of brackets of every kind of the part.
    """
    known = {kind: medians[kind] for kind, number in numbers.items() if number >= _LEAST_BRACKETS}
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


def log_speedups(texts: Sequence[Text], costs: Mapping[Kind, float]) -> np.ndarray:
    """Log of tokens over the cost of the rounds that gave them, of each prompt; a baseline step gives one token."""
    return np.array([np.log(t.tokens / sum(n * costs[kind] for kind, n in t.rounds.items())) for t in texts])


def speedup(texts: Sequence[Text], brackets: Brackets, seed: int = 0) -> Joint:
    """The speed-up over `texts` at the costs of `brackets`: mean log, its errors of machine and text.

    The machine's error is the standard deviation of the mean log speed-up when blocks of consecutive brackets are
    resampled; the text's that of a mean over prompts.

    Raises
    ------
    ValueError
        If there is no prompt with a token after its first, or a part of the rounds was never measured.
    """
    if not texts or not len(brackets):
        raise ValueError("a speed-up needs a prompt with at least two new tokens, and brackets")
    kinds = list(dict.fromkeys(kind for text in texts for kind in text.rounds))
    classes = _Classes(brackets, kinds)
    everything = np.arange(len(brackets))
    found = classes.costs(everything)
    if missing := sorted({part for part, _ in kinds} - {part for part, _ in found}):
        raise ValueError(f"no bracket measured the cost of {', '.join(missing)}")
    logs = log_speedups(texts, found)
    machine, blocks = _machine_error(classes, texts, seed)
    return Joint(float(logs.mean()), machine, blocks - 1, *_over_texts(logs))


def _over_texts(logs: np.ndarray) -> tuple[float, int, int, float]:
    """Standard error of a mean over prompts whose number was chosen by looking at them; its freedom, n, skewness."""
    _, error, skew = mean_error(logs)
    return (math.inf if error is None else _LOOKING * error), len(logs) - 1, len(logs), skew or 0.0


def _blocks(brackets: int) -> list[np.ndarray]:
    """Consecutive brackets by index, in blocks that are resampled together; of few brackets in smaller ones."""
    length = max(1, min(_BLOCK, brackets // _LEAST_BLOCKS))
    return np.array_split(np.arange(brackets), max(1, brackets // length))


def _machine_error(classes: _Classes, texts: Sequence[Text], seed: int) -> tuple[float, int]:
    """Standard error of the mean log speed-up that the costs leave, and the number of blocks it rests on."""
    blocks = _blocks(len(classes.of))
    if len(blocks) == 1:
        return math.inf, 1
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(len(blocks), size=len(blocks)) for _ in range(_RESAMPLES)]
    times = np.stack([np.bincount(chosen, minlength=len(blocks)) for chosen in drawn])
    costs = classes.resampled(np.repeat(times, [len(block) for block in blocks], axis=1))
    rounds = np.array([[text.rounds.get(kind, 0) for kind in classes.kinds] for text in texts])
    used = rounds.any(0)
    known = costs[~np.isnan(costs[:, used]).any(1)][:, used]
    if len(known) < 2:
        return math.inf, 1
    tokens = np.log([text.tokens for text in texts])
    means = (tokens - np.log(known @ rounds[:, used].T)).mean(1)
    return float(np.std(means, ddof=1)) * math.sqrt(len(blocks) / (len(blocks) - 1)), len(blocks)


@dataclass(frozen=True)
class Stretches:
    """Whole rounds, each stretch between steps of the baseline.

    rounds : the parts of each stretch: how many of each kind
    seconds, before, after : of the stretch, and of a step before and after it
    """

    rounds: Sequence[Mapping[Kind, int]]
    seconds: Sequence[float]
    before: Sequence[float]
    after: Sequence[float]

    @classmethod
    def from_columns(cls, columns: Mapping) -> "Stretches":
        """The stretches of a metrics file."""
        rounds = [{(part, size): number for part, size, number in stretch} for stretch in columns["rounds"]]
        return cls(rounds, *(columns[name] for name in ("seconds", "before", "after")))

    def __len__(self) -> int:
        return len(self.seconds)


def forgotten(brackets: Brackets, stretches: Stretches, *, tolerance: float, once_in: int) -> dict | None:
    """Whole rounds over the sum of their parts, both in baseline steps: 1 where nothing was forgotten.

    Parameters
    ----------
    tolerance : log ratio that is no matter, such as the precision asked for
    once_in : checks, of which one disagrees by chance

    Returns
    -------
    dict: `ratio`, `half_width` of its log at that level, `disagrees`, and the number of `stretches`; None where there
    are too few stretches, or a part of them was never measured by itself.
    """
    if len(stretches) < LEAST_UNITS or len(brackets) < _LEAST_BRACKETS:
        return None
    kinds = list(dict.fromkeys(kind for rounds in stretches.rounds for kind in rounds))
    classes, rng = _Classes(brackets, kinds), np.random.default_rng(0)
    blocks = _blocks(len(brackets))

    def log_ratio(found: Mapping[Kind, float], chosen: np.ndarray) -> float:
        parts = np.array([sum(n * found[kind] for kind, n in stretches.rounds[i].items()) for i in chosen])
        seconds, before, after = (np.asarray(x)[chosen] for x in (stretches.seconds, stretches.before, stretches.after))
        return float(np.median(np.log(seconds / parts)[:, None] - np.log(np.stack([before, after], 1))))

    found, everything = classes.costs(np.arange(len(brackets))), np.arange(len(stretches))
    if any(kind not in found for kind in kinds):
        return None
    drawn = []
    for _ in range(_RESAMPLES):
        costs_drawn = classes.costs(np.concatenate([blocks[i] for i in rng.integers(len(blocks), size=len(blocks))]))
        if all(kind in costs_drawn for kind in kinds):
            drawn.append(log_ratio(costs_drawn, rng.integers(len(stretches), size=len(stretches))))
    value = log_ratio(found, everything)
    width = float(stats.t.ppf(1 - 0.5 / once_in, min(len(blocks), len(stretches)) - 1)) * float(np.std(drawn, ddof=1))
    disagrees = bool(abs(value) > max(width, tolerance))
    return {"ratio": math.exp(value), "half_width": width, "disagrees": disagrees, "stretches": len(stretches)}


def is_precise(joint: Joint, precision: float) -> bool:
    """Whether a speed-up is known to a half-width of its log; not before eight prompts where the text matters."""
    width = joint.half_width()
    return width is not None and width <= precision and (joint.n >= _FIRST_LOOK or not joint.text)


def looks(least: int, most: int) -> list[int]:
    """The numbers of prompts at which the precision is looked at: each a third more than the one before."""
    sizes = [least]
    while sizes[-1] < most:
        sizes.append(min(most, math.ceil(sizes[-1] * 4 / 3)))
    return sizes
