"""Which drafted tokens the target keeps, so that the output law is the target's own.

Both rules see the target's laws P (gamma + 1 rows), the draft's laws Q (gamma rows) and the drafted tokens x, and
return how many leading tokens are kept and one more token drawn from the target's side. Greedy decoding is the case of
one-hot laws: nothing here treats it apart.

- `token`: Leviathan et al. (2023), algorithm 1; Chen et al. (2023), algorithm 2.
- `block`: Sun et al. (2024), "Block Verification Accelerates Speculative Decoding", algorithm 2.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from specpress.sampling import Randomness, draw


class Verdict(NamedTuple):
    """The outcome of one verification: the drafted tokens kept, and the token that follows them."""

    accepted: int
    token: int


def verify(method: str, target: Tensor, draft: Tensor, drafted: Tensor, randomness: Randomness) -> Verdict:
    """Keep a prefix of the drafted tokens and draw the token after it.

    Parameters
    ----------
    method : "token" or "block"
    target : Tensor (gamma + 1, vocabulary), the target's law at each drafted position and after the last
    draft : Tensor (gamma, vocabulary), the law each drafted token was drawn from
    drafted : LongTensor (gamma,)
    randomness : Randomness

    Returns
    -------
    Verdict: accepted in [0, gamma]; the sequence drafted[:accepted] + [token] follows the target's law.
    """
    gamma = drafted.shape[0]
    if gamma == 0:
        return Verdict(0, int(draw(target[0], randomness.uniforms())))
    plan = _RULES[method](target, draft, drafted)
    accepted = plan.accepted(randomness.uniforms(gamma))
    law = target[gamma] if accepted == gamma else residual(target[accepted], draft[accepted], plan.weight(accepted))
    return Verdict(accepted, int(draw(law, randomness.uniforms())))


def residual(target: Tensor, draft: Tensor, weight: float = 1.0) -> Tensor:
    """The law of the token after a rejection: max(weight P - Q, 0), unnormalised.

    When P and Q agree to rounding nothing is left of the difference; a rejection there has probability zero in exact
    arithmetic, and P itself is the limit.

    Parameters
    ----------
    target, draft : Tensor (vocabulary,)
    weight : float in (0, 1], the probability p_tau of block verification; 1 for token verification
    """
    difference = (weight * target - draft).clamp_(min=0)
    return difference if difference.sum() > 0 else target


class TokenPlan:
    """Token verification: x_i is kept with probability min(1, P(x_i) / Q(x_i)), up to the first rejection."""

    def __init__(self, target: Tensor, draft: Tensor, drafted: Tensor):
        index = drafted.unsqueeze(-1)
        kept = target[:-1].gather(-1, index) / draft.gather(-1, index)
        self.probability = kept.squeeze(-1).double().clamp(max=1).cpu()  # (gamma,)

    def accepted(self, uniforms: Tensor) -> int:
        """Length of the kept prefix; uniforms: (gamma,) in [0, 1)."""
        return int((uniforms < self.probability).long().cumprod(0).sum())

    def weight(self, accepted: int) -> float:
        """The residual's weight on P after `accepted` kept tokens."""
        return 1.0


class BlockPlan:
    """Block verification: the kept length is the last i whose uniform falls under h_i; no early stop.

    p_0 = 1, p_i = min(1, p_{i-1} P(x_i) / Q(x_i)); for i < gamma, with the laws of position i + 1,
    Z_i = sum_x max(p_i P(x) - Q(x), 0) and h_i = Z_i / (Z_i + 1 - p_i), where 0/0 is 1; h_gamma = p_gamma.
    """

    def __init__(self, target: Tensor, draft: Tensor, drafted: Tensor):
        index = drafted.unsqueeze(-1)
        ratio = (target[:-1].gather(-1, index) / draft.gather(-1, index)).squeeze(-1).double().tolist()
        self.p = [1.0]
        for r in ratio:
            self.p.append(min(1.0, self.p[-1] * r))
        p = torch.tensor(self.p[1:-1], dtype=target.dtype, device=target.device).unsqueeze(-1)  # (gamma - 1, 1)
        z = (p * target[1:-1] - draft[1:]).clamp_(min=0).sum(-1).double().tolist()
        h = [1.0 if zi + 1 - pi <= 0 else zi / (zi + 1 - pi) for zi, pi in zip(z, self.p[1:-1], strict=True)]
        self.probability = torch.tensor([*h, self.p[-1]], dtype=torch.float64)  # (gamma,)

    def accepted(self, uniforms: Tensor) -> int:
        """Length of the kept prefix; uniforms: (gamma,) in [0, 1)."""
        hits = (uniforms < self.probability).nonzero()
        return int(hits[-1]) + 1 if len(hits) else 0

    def weight(self, accepted: int) -> float:
        """The residual's weight on P after `accepted` kept tokens: p_tau."""
        return self.p[accepted]


_RULES = {"token": TokenPlan, "block": BlockPlan}
METHODS = tuple(_RULES)
