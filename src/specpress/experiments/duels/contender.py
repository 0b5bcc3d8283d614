"""A method in a contest, what it made of each prompt, and what is known of its speed-up so far."""

import math
from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor

from specpress.decoding.generation import Generation
from specpress.experiments.duels.arms import Arm, counts, figures
from specpress.experiments.duels.duel import FIRST_ROUNDS, Record, as_rows
from specpress.experiments.duels.prompts import Prompt
from specpress.theory.costs import Brackets
from specpress.theory.duels import Joint, Text, speedup, together

MACHINE_SHARE = 0.25  # of the variance: above it the next prompts are duelled, below it only counted
MOSTLY_MACHINE = 0.5  # of the variance: above it they are duelled to their end


@dataclass(frozen=True)
class Run:
    """A prompt as a method decoded it. `baseline`: what the baseline was seen to do beside it; None if only counted.

    together : prompts that were decoded in one batch with it; the seed is that of the first of them
    baseline_tokens : LongTensor (batch, n), the baseline's own text, where the experiment asked for it
    text : what a question was answered; None for other prompts
    """

    prompt: Prompt
    generation: Generation
    rounds: Counter
    baseline: dict | None = None
    together: int = 1
    baseline_tokens: Tensor | None = None
    text: str | None = None

    @property
    def tokens(self) -> int:
        """Tokens after the first."""
        return self.generation.tokens.shape[1] - 1

    def row(self) -> dict:
        """For the metrics file."""
        return {
            **self.prompt.where(),
            "duelled": self.baseline is not None,
            "together": self.together,
            "tokens": self.tokens,
            "rounds": as_rows(self.rounds),
            "method": (figures if self.together == 1 else counts)(self.generation),
            "baseline": self.baseline,
            **({} if self.text is None else {"text": self.text}),
        }


@dataclass
class Contender:
    """A method, and everything measured of it so far.

    machine_share : of the variance, what the costs leave uncertain; None as long as nothing is known of it
    together : how many prompts it decodes in one batch as it would each of them alone
    """

    arm: Arm
    machine_share: float | None = None
    together: int = 1
    record: Record = field(default_factory=Record)
    runs: list[Run] = field(default_factory=list)

    @property
    def needs_costs(self) -> bool:
        """Whether the next prompt is better duelled than counted: the first ones are."""
        return self.machine_share is None or self.machine_share > MACHINE_SHARE

    @property
    def most_rounds(self) -> float:
        """Rounds of a prompt that are duelled: all of them while the costs are most of what is uncertain."""
        return math.inf if (self.machine_share or 0) > MOSTLY_MACHINE else FIRST_ROUNDS

    def brackets(self) -> Brackets:
        """The parts measured so far."""
        return Brackets.from_columns(self.record.brackets)

    def speedup(self) -> Joint | None:
        """What is known of its speed-up; None while no prompt gave two tokens."""
        runs = [(run.prompt.passages[0], run) for run in self.runs if run.tokens]
        units = together(((first.document, first.offset), Text(run.tokens, run.rounds)) for first, run in runs)
        texts = list(units.values())
        return speedup(texts, self.brackets()) if texts else None

    def columns(self) -> dict:
        """For the metrics file."""
        return {
            "runs": [run.row() for run in self.runs],
            "brackets": self.record.brackets,
            "stretches": self.record.stretches,
        }
