"""A method in a contest, the prompts it decodes, and what is known of its speed-up so far."""

from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor

from specpress.data.documents import Passage
from specpress.decoding.generation import Generation
from specpress.experiments.arms import Arm, counts, figures
from specpress.experiments.duel import Record, as_rows
from specpress.theory.duels import Brackets, Joint, Text, speedup


@dataclass(frozen=True)
class Prompt:
    """A prompt (a batch of passages), and the seed its tokens are drawn with."""

    number: int
    seed: int
    passages: list[Passage]

    def where(self) -> dict:
        """The columns of the metrics file that say which prompt this was. A batch goes by its first passage."""
        first = self.passages[0]
        return {
            "prompt": self.number,
            "document": first.document,
            "offset": first.offset,
            "seed": self.seed,
            "prompt_tokens": len(first.tokens),
        }


@dataclass(frozen=True)
class Run:
    """A prompt as a method decoded it. `baseline`: what the baseline was seen to do beside it; None if only counted.

    together : prompts that were decoded in one batch with it; the seed is that of the first of them
    baseline_tokens : LongTensor (batch, n), the baseline's own text, where the experiment asked for it
    """

    prompt: Prompt
    generation: Generation
    rounds: Counter
    baseline: dict | None = None
    together: int = 1
    baseline_tokens: Tensor | None = None

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
        }


@dataclass
class Contender:
    """A method, and everything measured of it so far.

    needs_costs : whether the next prompt is better duelled than counted: the fewest prompts are, and later ones while
        the costs leave the speed-up uncertain
    together : whether it decodes several prompts in one batch as it would each of them alone
    """

    arm: Arm
    needs_costs: bool = True
    together: bool = False
    record: Record = field(default_factory=Record)
    runs: list[Run] = field(default_factory=list)

    def brackets(self) -> Brackets:
        """The parts measured so far."""
        return Brackets.from_columns(self.record.brackets)

    def speedup(self) -> Joint | None:
        """What is known of its speed-up; None while no prompt gave two tokens."""
        texts = [Text(run.tokens, run.rounds) for run in self.runs if run.tokens]
        return speedup(texts, self.brackets()) if texts else None

    def columns(self) -> dict:
        """For the metrics file."""
        return {
            "runs": [run.row() for run in self.runs],
            "brackets": self.record.brackets,
            "stretches": self.record.stretches,
        }
