"""Laws over the whole vocabulary, made, drawn from and compared without a read on the host.

The same laws as `specpress.laws.law`, which are their oracle: the same arithmetic in the same order of the vocabulary,
so that a uniform says the same token there and here, unless it falls within some 1e-12 of where two tokens meet (sums
of float64 in another order). What the host would refuse, logits that are no numbers, is carried along in `sound` and
refused where something is read anyway.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from specpress.hardware.recording import Recorded
from specpress.laws.law import NO_NUMBERS, Drawn, Head, Law
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.laws.there import LawsThere


class DeviceLaws(LawsThere):
    """Sampled laws of rows of logits, (n, head size): `mass`, float64 (n, vocabulary or less), each row sums to one."""

    def __init__(self, logits: Tensor, sampling: SamplingParams, head: Head | None = None):
        covered = None if head is None else head.device
        width = logits.shape[1] if head is None else int(head.host[-1]) + 1
        self.mass, self.sound = dense_laws(logits, constants=(replace(sampling, seed=0), covered, width))

    @classmethod
    def of(cls, mass: Tensor, sound: Tensor | None = None) -> "DeviceLaws":
        """Laws that are made already."""
        laws = cls.__new__(cls)
        laws.mass = mass
        laws.sound = torch.ones(len(mass), dtype=torch.bool, device=mass.device) if sound is None else sound
        return laws

    @classmethod
    def gathered(cls, laws: Sequence[Law], width: int, device: torch.device) -> "DeviceLaws":
        """Laws of the host or of another device, n of them over `width` tokens, on a device."""
        if isinstance(laws, cls):
            return cls.of(widened(laws.mass.to(device), width), laws.sound.to(device))
        places = torch.from_numpy(np.concatenate([law.tokens + i * width for i, law in enumerate(laws)]))
        mass = torch.from_numpy(np.concatenate([law.mass for law in laws]))  # what travels is their supports
        dense = torch.zeros(len(laws) * width, dtype=torch.float64, device=device)
        return cls.of(dense.index_copy_(0, places.to(device), mass.to(device)).view(len(laws), width))

    def picked(self, places: slice | Sequence[int]) -> "DeviceLaws":
        """See `LawsThere.picked`."""
        return DeviceLaws.of(self.mass[places], self.sound[places])

    def on_host(self) -> list[Law | None]:
        """See `LawsThere.on_host`; what travels is their supports."""
        return _supports(torch.where(self.sound[:, None], self.mass, 0))

    def draw(self, randomness: Randomness) -> Drawn:
        """A token from each."""
        return Drawn(*draws(self.mass, randomness.on(self.mass.device, len(self))))

    def take(self, randomness: Randomness) -> Tensor:
        """A token from each, LongTensor (n,) on the CPU."""
        tokens = torch.where(self.sound, self.draw(randomness).tokens, -1).cpu()
        if int(tokens.min()) < 0:
            raise ValueError(NO_NUMBERS)
        return tokens


def drawn(mass: Tensor, uniforms: Tensor) -> Tensor:
    """The token of each row where its cumulative law passes the row's uniform in [0, 1), LongTensor (n,).

    mass : float64 (n, vocabulary), non-negative, need not be normalised
    """
    cumulative = mass.cumsum(-1)
    total = cumulative[:, -1:]
    level = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, level, right=True)[:, 0].clamp_(max=mass.shape[1] - 1)


def _supports(mass: Tensor) -> list[Law | None]:
    """The laws that rows, float64 (n, vocabulary), hold, on the host; None of a row without mass."""
    rows, tokens = mass.nonzero(as_tuple=True)
    there = torch.stack([rows.double(), tokens.double(), mass[rows, tokens]]).cpu().numpy()  # in one copy
    ends = there[0].searchsorted(range(len(mass) + 1))
    tokens = there[1].astype(np.int64)
    return [Law(tokens[a:b], there[2, a:b]) if a < b else None for a, b in pairwise(ends.tolist())]


def widened(mass: Tensor, width: int) -> Tensor:
    """Laws over `width` tokens at least; those that are new have no mass."""
    return F.pad(mass, (0, width - mass.shape[1])) if mass.shape[1] < width else mass


@Recorded
def draws(mass: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens that `drawn` says, and their mass."""
    tokens = drawn(mass, uniforms)
    return tokens, mass.gather(1, tokens[:, None])[:, 0]


@Recorded
def dense_laws(logits: Tensor, sampling: SamplingParams, covered: Tensor | None, width: int) -> tuple[Tensor, Tensor]:
    """Laws of rows of logits, (n, head size), over `width` tokens, of which the head covers some; and which are sound.

    covered : LongTensor (head size,), or None for all
    """
    mass, sound = _laws(logits, sampling)
    return mass if covered is None else mass.new_zeros(len(mass), width).index_copy_(1, covered, mass), sound


def _laws(logits: Tensor, sampling: SamplingParams) -> tuple[Tensor, Tensor]:
    """See `specpress.laws.sampling.probabilities`; and whether each row is a law."""
    laws = torch.softmax(logits.float() / sampling.temperature, -1)
    if 0 < sampling.top_k < laws.shape[-1]:
        mass, tokens = laws.topk(sampling.top_k, -1)
        laws = _normalised(torch.zeros_like(laws, dtype=torch.float64).scatter_(-1, tokens, mass.double()))[0]
    if sampling.top_p < 1:
        mass, tokens = laws.sort(dim=-1, descending=True, stable=True)
        before = F.pad(mass.cumsum(-1, dtype=torch.float64)[:, :-1], (1, 0))
        laws = torch.zeros_like(laws).scatter_(-1, tokens, mass * (before < sampling.top_p))
    return _normalised(laws.double())


def _normalised(mass: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that sum to one, and which of them had a sum."""
    total = mass.sum(-1, keepdim=True)
    return mass / total, total[:, 0] > 0
