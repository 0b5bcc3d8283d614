"""A duel on one prompt: baseline and method advance in turn, each part of the method between two baseline steps.

Speed is what a part costs in the steps next to it, so that whatever slows the machine for a while cancels. Between the
rounds that are taken apart some are left whole, and set between as many baseline steps as they are long: if something
were missing from the parts, it would show there.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from specpress.decoding.generation import Decoding, Part
from specpress.decoding.loop import Loop
from specpress.decoding.trace import Trace
from specpress.hardware.clock import clock
from specpress.theory.parts import DRAFTING, PREFILL, VERIFICATION

BRACKETS = ("prompt", "part", "size", "seconds", "before", "after")
STRETCHES = ("prompt", "rounds", "seconds", "before", "after")
_APART, _WHOLE = 4, 2  # rounds taken apart, then rounds left whole, in turn
FIRST_ROUNDS = 12  # of a prompt, that are set between steps; the others are only counted, which takes a third
NO_END = (-1,)  # a token that no text has: looking for the end takes the baseline as long as the method
_SLACK = 8  # tokens the baseline may be ahead of the method before it goes back
_LONGEST = 4  # steps next to a part at most


@dataclass
class Record:
    """What duels have measured so far, as columns: one row a part, and one a stretch of whole rounds.

    brackets : prompt, part, size; seconds of the part, and of the step before and after it
    stretches : prompt, rounds as [part, size, number]; seconds, and of a step before and after
    """

    brackets: dict[str, list] = field(default_factory=lambda: {name: [] for name in BRACKETS})
    stretches: dict[str, list] = field(default_factory=lambda: {name: [] for name in STRETCHES})


class Baseline:
    """Autoregressive decoding on a cache of its own, which takes as many steps as are asked of it."""

    def __init__(self, loop: Loop):
        self.loop, self.prompt_length = loop, loop.length
        self.seconds: list[float] = []  # of every step so far
        self._parts = loop.parts()

    def read(self) -> float:
        """Read the prompt; seconds to the first token."""
        return next(self._parts).seconds

    def step(self, near: int) -> float:
        """Seconds of a step at about `near` new tokens: the cache is taken back when it has gone ahead of that."""
        ahead = self.loop.length - self.prompt_length - near
        if ahead > _SLACK or self.loop.length >= self.loop.limit:
            self.rewind(near)
        self.seconds.append(next(self._parts).seconds)
        return self.seconds[-1]

    def steps(self, near: int, seconds: float) -> float:
        """Mean seconds of a step over as many steps as `seconds` are long: what is longer is disturbed more often."""
        count = max(1, min(_LONGEST, round(seconds / min(self.seconds[-8:])))) if self.seconds else 1
        return sum(self.step(near) for _ in range(count)) / count

    def text(self, tokens: int) -> Tensor:
        """Its own first `tokens` new tokens, LongTensor (batch, tokens); greedy steps taken back come out the same."""
        while self.loop.new < tokens:
            next(self._parts)
        return self.loop.tokens()[:, :tokens]

    def rewind(self, near: int) -> None:
        """Go back to `near` new tokens, or as near as leaves room for a step."""
        last = self.loop.limit - 1
        self.loop.rewind_to(max(self.prompt_length + 1, min(self.loop.length, self.prompt_length + near, last)))


@dataclass(frozen=True)
class Read:
    """Seconds to the first token of both, read in turn."""

    baseline: float
    method: float


def duel(
    baseline: Baseline, method: Decoding, record: Record, prompt: int, turn: int, most_rounds: float = FIRST_ROUNDS
) -> tuple[Read, Counter]:
    """Decode a prompt with `method` to its end, at first between steps of `baseline`; the prefills and the rounds.

    A method that compresses while decoding is duelled to the end: its first rounds may have no such part. The models
    must be set up for decoding (`specpress.engine.attention.decode_attention`).

    Parameters
    ----------
    record : is extended by the brackets and stretches of prompt number `prompt`
    turn : which of the two reads the prompt first, and whether the first rounds are left whole, follow from it
    most_rounds : that are set between steps, from the first on; infinity for all

    Returns
    -------
    Read, and how many parts of each (name, size) the generation took.
    """
    parts = method.parts()
    if turn % 2:
        read = Read(baseline.read(), next(parts).seconds)
    else:
        first = next(parts).seconds
        read = Read(baseline.read(), first)
    counted: Counter = Counter()
    number = first_round = _WHOLE if turn % 2 else 0  # so that either kind comes first
    before = baseline.step(1)
    rounds = _rounds(parts)
    while method.compresses or number < first_round + most_rounds:
        take = _apart if number % (_APART + _WHOLE) < _APART else _whole
        taken, before = take(rounds, method, baseline, record, prompt, before)
        if not taken:
            return read, counted
        counted.update((part.name, part.size) for part in taken)
        number += 1 if take is _apart else _WHOLE
    counted.update((part.name, part.size) for part in parts)
    return read, counted


def _rounds(parts: Iterator[Part]) -> Iterator[Iterator[Part]]:
    """Each round as an iterator over its parts, to be taken to its end before the next."""
    for first in parts:
        yield _round(first, parts)


def _round(part: Part, parts: Iterator[Part]) -> Iterator[Part]:
    yield part
    while part.name != VERIFICATION:
        part = next(parts)
        yield part


def _apart(rounds, method, baseline, record, prompt, before) -> tuple[list[Part], float]:
    """One round, a step after each of its parts; the parts, and the seconds of the last step."""
    taken = []
    for part in next(rounds, ()):
        after = baseline.steps(method.new, part.seconds)
        row = (prompt, part.name, part.size, part.seconds, before, after)
        for name, value in zip(BRACKETS, row, strict=True):
            record.brackets[name].append(value)
        taken, before = [*taken, part], after
    return taken, before


def _whole(rounds, method, baseline, record, prompt, before) -> tuple[list[Part], float]:
    """Rounds without a pause, by a clock that looks at nothing but their beginning and end."""
    if longest := max(record.stretches["seconds"][-3:], default=0.0):
        before = baseline.steps(method.new, longest)
    started = clock(method.device)
    taken = [part for _, round_ in zip(range(_WHOLE), rounds, strict=False) for part in round_]
    seconds = clock(method.device) - started
    if taken:
        after = baseline.steps(method.new, seconds)
        kinds = Counter((part.name, part.size) for part in taken)
        row = (prompt, as_rows(kinds), seconds, before, after)
        for name, value in zip(STRETCHES, row, strict=True):
            record.stretches[name].append(value)
        before = after
    return taken, before


def count(method: Decoding) -> Counter:
    """Decode a prompt with `method` alone: how many parts of each (name, size) it takes."""
    return Counter((part.name, part.size) for part in method.parts() if part.name != PREFILL)


def count_traced(trace: Trace) -> Counter:
    """The same of a generation that has been, from its trace; one that did not compress while decoding."""
    drafting = Counter((DRAFTING, i.proposed) for i in trace.iterations if i.gamma)
    return drafting + Counter((VERIFICATION, i.proposed + 1) for i in trace.iterations)


def as_rows(kinds: Counter) -> list[list]:
    """Parts by kind as JSON can hold them: [name, size, number]."""
    return [[name, size, number] for (name, size), number in sorted(kinds.items())]
