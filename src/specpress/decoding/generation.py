"""A generation that can be advanced part by part: prefill, then rounds of compression, drafting and verification."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from specpress.decoding.trace import Trace
from specpress.engine.attention import decode_attention
from specpress.hardware.clock import clock
from specpress.models.vocabulary import one_vocabulary


@dataclass(frozen=True)
class Generation:
    """What `generate` returns.

    tokens : LongTensor (batch, new), the new tokens only, where the prompt was; rows that ended early repeat their
        end-of-text token.
    trace : Trace, per-iteration proposed, accepted, gamma, seconds, cache slots.
    """

    tokens: Tensor
    trace: Trace = field(repr=False)

    def on(self, device: torch.device) -> "Generation":
        """The same with its tokens on a device: decoding keeps its text on the host."""
        return Generation(self.tokens.to(device), self.trace)

    def metrics(self) -> dict:
        """ttft_s, tpot_ms, tokens_per_s, acceptance_rate, tokens_per_iteration, kv_bytes; see `Trace.metrics`."""
        return self.trace.metrics(self.tokens.shape[1])


class Part(NamedTuple):
    """A part of a generation that is done, and the seconds it took, device included.

    name : of `specpress.theory.parts`: prefill once; then in each round compression where it is due, drafting where
        there is something to ask the drafter for, and verification, which ends the round: the target's forward, the
        laws, the commit
    size : tokens read, slots before the compression, tokens drafted, rows of the forward: last token and drafted ones,
        each summed over the sequences of a batch
    """

    name: str
    size: int
    seconds: float


class Stopwatch:
    """Seconds of the parts of a round; what happens between a part and the next `start` counts for none.

    `of` : those of the parts of each name
    """

    def __init__(self, device: torch.device):
        self._device, self.of = device, defaultdict(float)
        self.start()

    @property
    def total(self) -> float:
        """Those of all parts."""
        return sum(self.of.values())

    def start(self) -> None:
        """The next part begins."""
        self._started = clock(self._device)

    def part(self, name: str, size: int) -> Part:
        """The part that ends now."""
        seconds = clock(self._device) - self._started
        self.of[name] += seconds
        return Part(name, size, seconds)


class Decoding:
    """One generation of one loop. `run` takes it to its end; `parts` lets others work between any two of its parts.

    A subclass keeps `trace`, and says how to go on and what has come out.
    """

    compresses = False  # while decoding, not only after the prompt

    def __init__(self, device: torch.device, models: Sequence[nn.Module]):
        self.device, self.models = device, models
        self.trace = Trace()

    def parts(self, on_tokens: Callable = lambda tokens: None) -> Iterator[Part]:
        """Go on, part by part, until the limit or the end of text; the models must be set up: see `run`.

        on_tokens : see `specpress.generate`
        """
        raise NotImplementedError

    @property
    def new(self) -> int:
        """New tokens so far, of the longest row."""
        raise NotImplementedError

    def tokens(self) -> Tensor:
        """The new tokens so far, LongTensor (batch, new)."""
        raise NotImplementedError

    def run(self, on_tokens: Callable = lambda tokens: None) -> Generation:
        """All parts, one after the other."""
        with one_vocabulary(*self.models), decode_attention(*self.models):
            for _ in self.parts(on_tokens):
                pass
        return self.generation()

    def generation(self) -> Generation:
        """What has been generated so far."""
        return Generation(self.tokens(), self.trace)

    def generations(self) -> list[Generation] | None:
        """Of each row what has been generated so far, as it would be alone; None where no such record is kept.

        Nor is it of rows that compress while decoding, or whose gamma depends on what rounds of the batch take.
        """
        return None
