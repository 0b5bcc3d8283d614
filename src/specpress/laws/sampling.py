"""How tokens are drawn: the sampling law of logits, said plainly, and seeded uniforms.

`probabilities` defines the law. Decoding uses the same laws on their supports, see `specpress.laws.law`.
"""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_LOOK_AHEAD = 256  # uniforms copied to a device at once: those of some 30 rounds


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is drawn.

    Parameters
    ----------
    temperature : float
        Divides the logits; 0 is greedy decoding (all mass on the most likely token). At least 1e-30 otherwise: logits
        divided by less overflow.
    top_k : int
        Keep the k most likely tokens; 0 keeps all.
    top_p : float
        Keep the smallest set of most likely tokens whose mass reaches top_p (Holtzman et al., 2020); 1 keeps all.
    seed : int
        Seeds the generator of one `generate` call: the same seed gives the same tokens.

    Raises
    ------
    ValueError
        temperature neither 0 nor from 1e-30 on, top_k < 0 or top_p outside (0, 1].
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if self.temperature != 0 and not 1e-30 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be 0 (greedy) or a positive number from 1e-30, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (keep all tokens) or positive, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")

    @property
    def greedy(self) -> bool:
        """Whether the law is a point mass on the most likely token."""
        return self.temperature == 0


def probabilities(logits: Tensor, sampling: SamplingParams) -> Tensor:
    """The law tokens are drawn from, after temperature, top-k and top-p in this order.

    Equally likely tokens enter the nucleus in the order of the vocabulary.

    Parameters
    ----------
    logits : Tensor (..., vocabulary), any floating dtype
    sampling : SamplingParams

    Returns
    -------
    Tensor (..., vocabulary), float32, each row sums to 1. Greedy rows are one-hot.
    """
    if sampling.greedy:
        best = logits.float().argmax(-1, keepdim=True)
        return torch.zeros_like(logits, dtype=torch.float32).scatter_(-1, best, 1.0)
    law = torch.softmax(logits.float() / sampling.temperature, dim=-1).double()
    if 0 < sampling.top_k < law.shape[-1]:
        law = _keep(law, *law.topk(sampling.top_k, dim=-1))
    if sampling.top_p < 1:
        mass, tokens = law.sort(dim=-1, descending=True, stable=True)
        before = F.pad(mass.cumsum(-1)[..., :-1], (1, 0))
        law = _keep(law, mass * (before < sampling.top_p), tokens)
    return (law / law.sum(-1, keepdim=True)).float()  # the softmax of thousands of tokens sums to one but roughly


def _keep(law: Tensor, mass: Tensor, tokens: Tensor) -> Tensor:
    """The law with `mass` on `tokens`, zero elsewhere, renormalised."""
    return torch.zeros_like(law).scatter_(-1, tokens, mass / mass.sum(-1, keepdim=True))


class Randomness:
    """Seeded uniforms in [0, 1), drawn on the CPU so that a seed gives the same tokens on every device.

    There is one sequence of them, whoever asks: `on` looks ahead, and copies many at once.
    """

    def __init__(self, seed: int):
        self._next = random.Random(seed).random
        self._ahead: list[float] = []  # drawn, of which the first `_used` have been given out
        self._used = 0
        self._copies: dict[torch.device, Tensor] = {}

    def uniform(self) -> float:
        """The next of independent uniforms."""
        if self._used == len(self._ahead):
            return self._next()
        self._used += 1
        return self._ahead[self._used - 1]

    def uniforms(self, count: int) -> list[float]:
        """The next `count` of them."""
        return [self.uniform() for _ in range(count)]

    def on(self, device: torch.device, count: int) -> Tensor:
        """The next `count` of them, float64 (count,) on a device; most calls copy nothing."""
        if self._used + count > len(self._ahead):
            missing = max(count, _LOOK_AHEAD) - (len(self._ahead) - self._used)
            self._ahead = [*self._ahead[self._used :], *(self._next() for _ in range(missing))]
            self._used, self._copies = 0, {}
        if device not in self._copies:
            self._copies[device] = torch.tensor(self._ahead, dtype=torch.float64).to(device)
        self._used += count
        return self._copies[device][self._used - count : self._used]
