"""What a duel says: the speed-up, and its two uncertainties.

Costs belong to the machine (`specpress.theory.costs`). Tokens a round belong to the text: they are counted, prompt by
prompt. docs/measuring.md compares estimators and says why it is these.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

from specpress.theory.costs import LEAST_BRACKETS, Brackets, Costs, Kind, blocks_of
from specpress.theory.intervals import CONFIDENCE, Estimate, joined, mean_error
from specpress.theory.parts import DRAFTING

LEAST_UNITS = 3  # prompts below which there is no interval
_RESAMPLES = 200
# Who stops when an interval has become narrow stops where the prompts happen to agree: it misses more often than it
# says. Simulated (docs/measuring.md), a look at 8 prompts at the earliest and errors a bit larger make up for it.
FIRST_LOOK, _LOOKING = 8, 1.1
_ALIKE = "all prompts alike: the interval is the machine's alone"


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
    drafts: bool = False

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
        found = joined(math.exp(self.value), parts, (1, 1), n=self.n, confidence=confidence)
        return replace(found, note=_ALIKE) if self.drafts and not self.text else found

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
    classes = Costs(brackets, kinds)
    found = classes.of_sample(np.arange(len(brackets)))
    if missing := sorted({part for part, _ in kinds} - {part for part, _ in found}):
        raise ValueError(f"no bracket measured the cost of {', '.join(missing)}")
    logs = log_speedups(texts, found)
    machine, blocks = _machine_error(classes, texts, seed)
    drafts = any(part == DRAFTING for part, _ in kinds)
    return Joint(float(logs.mean()), machine, blocks - 1, *_over_texts(logs), drafts=drafts)


def _over_texts(logs: np.ndarray) -> tuple[float, int, int, float]:
    """Standard error of a mean over prompts whose number was chosen by looking at them; its freedom, n, skewness."""
    _, error, skew = mean_error(logs)
    return (math.inf if error is None else _LOOKING * error), len(logs) - 1, len(logs), skew or 0.0


def _machine_error(classes: Costs, texts: Sequence[Text], seed: int) -> tuple[float, int]:
    """Standard error of the mean log speed-up that the costs leave, and the number of blocks it rests on."""
    blocks = blocks_of(len(classes.of))
    if len(blocks) == 1:
        return math.inf, 1
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(len(blocks), size=len(blocks)) for _ in range(_RESAMPLES)]
    times = np.stack([np.bincount(chosen, minlength=len(blocks)) for chosen in drawn])
    costs = classes.of_samples(np.repeat(times, [len(block) for block in blocks], axis=1))
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
    if len(stretches) < LEAST_UNITS or len(brackets) < LEAST_BRACKETS:
        return None
    kinds = list(dict.fromkeys(kind for rounds in stretches.rounds for kind in rounds))
    classes, rng = Costs(brackets, kinds), np.random.default_rng(0)
    blocks = blocks_of(len(brackets))

    def log_ratio(found: Mapping[Kind, float], chosen: np.ndarray) -> float:
        parts = np.array([sum(n * found[kind] for kind, n in stretches.rounds[i].items()) for i in chosen])
        seconds, before, after = (np.asarray(x)[chosen] for x in (stretches.seconds, stretches.before, stretches.after))
        return float(np.median(np.log(seconds / parts)[:, None] - np.log(np.stack([before, after], 1))))

    found, everything = classes.of_sample(np.arange(len(brackets))), np.arange(len(stretches))
    if any(kind not in found for kind in kinds):
        return None
    drawn = []
    for _ in range(_RESAMPLES):
        chosen = np.concatenate([blocks[i] for i in rng.integers(len(blocks), size=len(blocks))])
        costs_drawn = classes.of_sample(chosen)
        if all(kind in costs_drawn for kind in kinds):
            drawn.append(log_ratio(costs_drawn, rng.integers(len(stretches), size=len(stretches))))
    value = log_ratio(found, everything)
    width = float(stdtrit(min(len(blocks), len(stretches)) - 1, 1 - 0.5 / once_in)) * float(np.std(drawn, ddof=1))
    disagrees = bool(abs(value) > max(width, tolerance))
    return {"ratio": math.exp(value), "half_width": width, "disagrees": disagrees, "stretches": len(stretches)}


def is_precise(joint: Joint, precision: float) -> bool:
    """Whether a speed-up is known to a half-width of its log; not before eight prompts where something is drafted."""
    width = joint.half_width()
    return width is not None and width <= precision and (joint.n >= FIRST_LOOK or not joint.drafts)


def looks(least: int, most: int) -> list[int]:
    """The numbers of prompts at which the precision is looked at: each a third more than the one before."""
    sizes = [least]
    while sizes[-1] < most:
        sizes.append(min(most, math.ceil(sizes[-1] * 4 / 3)))
    return sizes
