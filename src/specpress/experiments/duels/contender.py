"""A method in a contest, what it made of each prompt, and what is known of its speed-up so far."""

from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor

from specpress.decoding.generation import Generation
from specpress.experiments.duels.arms import Arm, counts, figures
from specpress.experiments.duels.duel import FIRST_ROUNDS, Record, as_rows
from specpress.experiments.duels.prompts import Prompt
from specpress.theory.costs import Brackets
from specpress.theory.duels import Joint, Text, speedup, together


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

    needs_costs : whether the next prompt is better duelled than counted: the first ones are, and later ones while the
        costs leave the speed-up uncertain
    most_rounds : of a prompt that are duelled; infinity while the costs are most of what is uncertain
    together : how many prompts it decodes in one batch as it would each of them alone
    """

    arm: Arm
    needs_costs: bool = True
    most_rounds: float = FIRST_ROUNDS
    together: int = 1
    record: Record = field(default_factory=Record)
    runs: list[Run] = field(default_factory=list)

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
