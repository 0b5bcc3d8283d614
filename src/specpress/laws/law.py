"""The law of one token, held on its support: what is drawn from, and what verification compares.

A nucleus has some dozens of tokens where the vocabulary has tens of thousands, a greedy law has one. So laws live on
the CPU, in float64, on the few tokens that can be drawn; only `law_of` sees whole rows of logits. The definition it is
tested against is `specpress.laws.sampling.probabilities`.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from math import isfinite, nextafter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from specpress.laws.sampling import Randomness, SamplingParams

NO_NUMBERS = (
    "the model's logits are infinite or no numbers (NaN): its weights are broken, or too large for its dtype; "
    'load it with dtype="bfloat16" or "float32"'
)
_ONE = np.ones(1)
_BANDS = tuple(pairwise((2.0, 3e-4, 1e-4, 3e-5, 1e-5, 0.0)))  # of a token's mass


class Law(NamedTuple):
    """`mass`, float64 (k,), non-negative, on `tokens`, int64 (k,), distinct; zero on all others.

    Need not be normalised to be drawn from. `law_of` gives the tokens in the order of the vocabulary, so that a uniform
    says the same token here and in a law over the whole vocabulary. Where exactness is proved, `mass` holds fractions
    instead (dtype object).
    """

    tokens: np.ndarray
    mass: np.ndarray

    def draw(self, uniform: float) -> tuple[int, float]:
        """The token where the cumulative law passes `uniform`, in [0, 1), and its mass, never zero."""
        place = 0
        if len(self.mass) > 1:
            cumulative = self.mass.cumsum()
            total = float(cumulative[-1])
            level = min(uniform * total, nextafter(total, 0.0))  # rounding may have reached the total
            place = cumulative.searchsorted(level, side="right")
        return int(self.tokens[place]), float(self.mass[place])

    def probability(self, token: int) -> float:
        """The mass of a token."""
        found = (self.tokens == token).argmax()
        return self.mass.item(found) if self.tokens[found] == token else 0

    def at(self, tokens: np.ndarray) -> np.ndarray:
        """The mass of each of `tokens`, int64 (m,): float64 (m,), not to be written to."""
        if tokens is self.tokens:  # as between laws that cover the whole vocabulary
            return self.mass
        if len(self.tokens) == 1:  # a point, as most nodes of a tree have
            return np.where(tokens == self.tokens[0], self.mass[0], 0)
        return self.dense(1 + max(np.maximum.reduce(self.tokens), np.maximum.reduce(tokens)))[tokens]

    def dense(self, vocabulary: int) -> np.ndarray:
        """The law over the whole vocabulary, float64 (vocabulary,)."""
        dense = np.zeros(vocabulary, self.mass.dtype)
        dense[self.tokens] = self.mass
        return dense


class Head(NamedTuple):
    """The tokens of an output head over part of the vocabulary, sorted: int64 (head size,), here and on its device."""

    host: np.ndarray
    device: Tensor


class Drawn(NamedTuple):
    """Tokens drawn from laws, LongTensor (n,), and the mass of each; both where the laws are."""

    tokens: Tensor
    mass: Sequence[float] | Tensor


class Laws(Sequence):
    """The laws of rows of logits, each made when first asked for: behind a rejected token nobody asks.

    See `law_of` for the parameters; logits: (n, head size).
    """

    def __init__(self, logits: Tensor, sampling: SamplingParams, head: Head | None = None):
        self._logits, self._sampling, self._head = logits, sampling, None if head is None else head.host
        self._made: dict[int, Law] = {}

    def __len__(self) -> int:
        return len(self._logits)

    def __getitem__(self, index: int | slice) -> Law | list[Law]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        if i not in self._made:
            self._made[i] = law_of(self._logits[i], self._sampling, self._head)
        return self._made[i]

    def draw(self, randomness: Randomness) -> "Drawn":
        """A token from each."""
        tokens, mass = zip(*(law.draw(randomness.uniform()) for law in self), strict=True)
        return Drawn(torch.tensor(tokens), mass)

    def take(self, randomness: Randomness) -> Tensor:
        """A token from each, LongTensor (n,) on the CPU."""
        return self.draw(randomness).tokens


def law_of(logits: Tensor, sampling: SamplingParams, head: np.ndarray | None = None) -> Law:
    """The law tokens are drawn from, after temperature, top-k and top-p in this order, normalised.

    Parameters
    ----------
    logits : Tensor (head size,), any floating dtype
    sampling : SamplingParams
    head : int64 (head size,), ascending, the tokens of an output head over part of the vocabulary (see `head_tokens`);
        None for a head that covers it

    Raises
    ------
    ValueError
        Logits that leave no law: infinite ones, or NaN.
    """
    law = point(_most_likely(logits)) if sampling.greedy else _sampled(logits, sampling)
    return law if head is None else Law(head[law.tokens], law.mass)


def head_tokens(model: torch.nn.Module) -> Head | None:
    """The tokens that a model's output head covers; None: all of them, in order."""
    tokens = getattr(model, "head_token_ids", None)
    return None if tokens is None else Head(tokens.cpu().numpy(), tokens)


def point(token: int) -> Law:
    """All mass on one token."""
    return Law(np.array([token]), _ONE)


def _most_likely(logits: Tensor) -> int:
    """The first of the largest logits; ValueError if that is none, or infinite: NaN counts as the largest."""
    if logits.device.type == "cpu":
        row = logits.float().numpy()
        token = int(row.argmax())  # torch takes ten times as long
        largest = float(row[token])
    else:
        largest, token = torch.stack([part.double() for part in logits.max(-1)]).tolist()  # read in one go
    if not isfinite(largest):
        raise ValueError(NO_NUMBERS)
    return int(token)


def _sampled(logits: Tensor, sampling: SamplingParams) -> Law:
    law = torch.softmax(logits.float() / sampling.temperature, -1)
    if not 0 < sampling.top_k < len(law):
        return _truncated(law.cpu().numpy(), sampling.top_p)
    chosen = law.topk(sampling.top_k).indices.sort().values
    kept = _truncated(_normalised(law[chosen].cpu().numpy()), sampling.top_p)
    return Law(chosen.cpu().numpy()[kept.tokens], kept.mass)


def _truncated(mass: np.ndarray, top_p: float) -> Law:
    if top_p == 1:
        return Law(_all_tokens(len(mass)), _normalised(mass))
    kept = _nucleus(mass, top_p)
    return Law(kept, _normalised(mass[kept]))


@cache
def _all_tokens(vocabulary: int) -> np.ndarray:
    """int64 (vocabulary,), one and the same for all laws that cover a vocabulary of that size."""
    return np.arange(vocabulary)


def _normalised(mass: np.ndarray) -> np.ndarray:
    total = np.add.reduce(mass, dtype=np.float64)
    if not total > 0:
        raise ValueError(NO_NUMBERS)
    return mass / total


def _nucleus(mass: np.ndarray, top_p: float) -> np.ndarray:
    """The smallest set of most likely places whose mass reaches top_p, ascending; of equals, those that come first.

    Taken in bands of mass, from the top: only the last band has to be sorted.

    mass : (n,), normalised
    """
    whole, reached = [], 0.0
    for ceiling, floor in _BANDS:
        band = ((mass >= floor) & (mass < ceiling)).nonzero()[0]
        within = mass[band]
        total = reached + float(np.add.reduce(within, dtype=np.float64))
        if total >= top_p or not floor:
            break
        whole.append(band)
        reached = total
    order = (-within).argsort(kind="stable")
    missing = (within[order].cumsum(dtype=np.float64) + reached).searchsorted(top_p) + 1
    kept = np.concatenate([*whole, band[order[:missing]]])
    kept.sort()
    return kept
