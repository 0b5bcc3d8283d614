"""From logits to a sampling law, and from a law to tokens.

Draft and target go through the same `probabilities`, in float32, so that verification compares the laws that tokens are
really drawn from.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is drawn.

    Parameters
    ----------
    temperature : float
        Divides the logits; 0 is greedy decoding (all mass on the most likely token).
    top_k : int
        Keep the k most likely tokens; 0 keeps all.
    top_p : float
        Keep the smallest set of most likely tokens whose mass reaches top_p (Holtzman et al., 2020); 1 keeps all.
    seed : int
        Seeds the generator of one `generate` call: the same seed gives the same tokens.

    Raises
    ------
    ValueError
        temperature < 0, top_k < 0 or top_p outside (0, 1].
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be 0 (greedy) or a positive number, got {self.temperature}")
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

    Parameters
    ----------
    logits : Tensor (..., vocabulary), any floating dtype
    sampling : SamplingParams

    Returns
    -------
    Tensor (..., vocabulary), float32, each row sums to 1. Greedy rows are one-hot.
    """
    if sampling.greedy:
        best = logits.float().argmax(-1, keepdim=True)  # a bfloat16 argmax takes four times as long
        return torch.zeros_like(logits, dtype=torch.float32).scatter_(-1, best, 1.0)
    law = torch.softmax(logits.float() / sampling.temperature, dim=-1)
    if sampling.top_k and sampling.top_k < law.shape[-1]:
        law = _keep(law, *law.topk(sampling.top_k, dim=-1))
    if sampling.top_p < 1:
        law = _nucleus(law, sampling.top_p)
    return law


def _nucleus(law: Tensor, top_p: float) -> Tensor:
    """Restrict each row to its nucleus; law: (..., vocabulary).

    Tokens under (1 - top_p) / vocabulary have less than 1 - top_p of the mass between them, so the nucleus lies among
    the others: a few hundred to sort instead of the vocabulary. Row by row, so that a flat row costs only itself.
    """
    floor = 0.99 * (1 - top_p) / law.shape[-1]  # a little under: the mass of the rest is a rounded sum
    rows = law.flatten(0, -2) if law.dim() > 1 else law[None]
    kept = torch.zeros_like(rows)
    for row, out in zip(rows, kept, strict=True):
        candidates = (row >= floor).nonzero().squeeze(-1)
        mass, order = row[candidates].sort(descending=True)
        mass = mass * (mass.cumsum(0) - mass < top_p)  # while all more likely tokens have not reached top_p
        out[candidates[order]] = mass / mass.sum()
    return kept.view_as(law)


def _keep(law: Tensor, mass: Tensor, tokens: Tensor) -> Tensor:
    """The law with `mass` on `tokens`, zero elsewhere, renormalised."""
    return torch.zeros_like(law).scatter_(-1, tokens, mass / mass.sum(-1, keepdim=True))


def over_vocabulary(laws: Tensor, token_ids: Tensor | None, vocabulary: int) -> Tensor:
    """Laws over the tokens of an output head, (n, k), as laws over the whole vocabulary, (n, vocabulary).

    token_ids : LongTensor (k,), the head's tokens; None for a head that covers the vocabulary
    """
    if token_ids is None:
        return laws
    return laws.new_zeros(laws.shape[0], vocabulary).index_copy_(1, token_ids, laws)


def draw(law: Tensor, uniforms: Tensor) -> Tensor:
    """Tokens drawn by inverting the cumulative law at `uniforms`.

    Parameters
    ----------
    law : Tensor (..., vocabulary), non-negative, need not be normalised
    uniforms : Tensor (...), in [0, 1)

    Returns
    -------
    LongTensor (...). A token of zero mass is never drawn.
    """
    cumulative = law.cumsum(-1, dtype=torch.float64)
    total = cumulative[..., -1:]
    level = uniforms.to(cumulative).unsqueeze(-1) * total
    level = torch.minimum(level, torch.nextafter(total, torch.zeros_like(total)))  # rounding may have reached the total
    return torch.searchsorted(cumulative, level, right=True).squeeze(-1)


class Randomness:
    """Seeded uniforms, drawn on the CPU so that a seed gives the same tokens on every device."""

    def __init__(self, seed: int):
        self._generator = torch.Generator().manual_seed(seed)

    def uniforms(self, *shape: int) -> Tensor:
        """Float64 tensor of independent uniforms in [0, 1)."""
        return torch.rand(shape, generator=self._generator, dtype=torch.float64)
