"""Which drafted tokens the target keeps, so that the output law is the target's own.

Both rules see the target's laws P (gamma + 1 rows), the draft's laws Q (gamma rows) and the drafted tokens x, and
return how many leading tokens are kept and one more token drawn from the target's side. Greedy decoding is the case of
one-hot laws: nothing here treats it apart.

- `token`: Leviathan et al. (2023), algorithm 1; Chen et al. (2023), algorithm 2.
- `block`: Sun et al. (2024), "Block Verification Accelerates Speculative Decoding", algorithm 2.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from specpress.laws.law import Law
from specpress.laws.sampling import Randomness


class Verdict(NamedTuple):
    """The outcome of one verification: the drafted tokens kept, and the token that follows them."""

    accepted: int
    token: int


def verify(
    method: str, target: Sequence[Law], draft: Sequence[Law], drafted: Sequence[int], randomness: Randomness
) -> Verdict:
    """Keep a prefix of the drafted tokens and draw the token after it.

    Parameters
    ----------
    method : "token" or "block"
    target : gamma + 1 laws, the target's at each drafted position and after the last
    draft : gamma laws, those the drafted tokens were drawn from
    drafted : gamma tokens
    randomness : Randomness

    Returns
    -------
    Verdict: accepted in [0, gamma]; the sequence drafted[:accepted] + [token] follows the target's law.
    """
    gamma = len(drafted)
    if gamma == 0:
        return Verdict(0, target[0].draw(randomness.uniform())[0])
    plan = _RULES[method](target, draft, drafted)
    accepted = plan.accepted(randomness.uniforms(gamma))
    law = target[gamma] if accepted == gamma else residual(target[accepted], draft[accepted], plan.weight(accepted))
    return Verdict(accepted, law.draw(randomness.uniform())[0])


def residual(target: Law, draft: Law, weight: float = 1.0) -> Law:
    """The law of the token after a rejection: max(weight P - Q, 0), unnormalised.

    When P and Q agree to rounding nothing is left of the difference; a rejection there has probability zero in exact
    arithmetic, and P itself is the limit.

    Parameters
    ----------
    target, draft : Law
    weight : float in (0, 1], the probability p_tau of block verification; 1 for token verification
    """
    if len(target.tokens) == 1:  # whatever is left of it, it is left on the one token
        return target
    mass = _excess(target, draft, weight)
    return Law(target.tokens, mass) if mass.any() else target


def _excess(target: Law, draft: Law, weight: float) -> np.ndarray:
    """max(weight P - Q, 0) on P's tokens; nothing is left elsewhere."""
    excess = weight * target.mass
    excess -= draft.at(target.tokens)
    return np.maximum(excess, 0, out=excess)


def _ratio(target: Law, draft: Law, token: int) -> float:
    """P(x) / Q(x)."""
    return target.probability(token) / draft.probability(token)


class TokenPlan:
    """Token verification: x_i is kept with probability min(1, P(x_i) / Q(x_i)), up to the first rejection."""

    def __init__(self, target: Sequence[Law], draft: Sequence[Law], drafted: Sequence[int]):
        self._target, self._draft, self._drafted = target, draft, drafted

    def probability(self, i: int) -> float:
        """Of keeping drafted[i], given that all before it are kept."""
        return min(1.0, _ratio(self._target[i], self._draft[i], self._drafted[i]))

    def accepted(self, uniforms: Sequence[float]) -> int:
        """Length of the kept prefix; gamma uniforms in [0, 1). The target's laws behind it are not looked at."""
        rejected = (i for i, uniform in enumerate(uniforms) if uniform >= self.probability(i))
        return next(rejected, len(uniforms))

    def weight(self, accepted: int) -> float:
        """The residual's weight on P after `accepted` kept tokens."""
        return 1.0


class BlockPlan:
    """Block verification: the kept length is the last i whose uniform falls under h_i; no early stop.

    p_0 = 1, p_i = min(1, p_{i-1} P(x_i) / Q(x_i)); for i < gamma, with the laws of position i + 1,
    Z_i = sum_x max(p_i P(x) - Q(x), 0) and h_i = Z_i / (Z_i + 1 - p_i), where 0/0 is 1; h_gamma = p_gamma.
    """

    def __init__(self, target: Sequence[Law], draft: Sequence[Law], drafted: Sequence[int]):
        self._target, self._draft = target, draft
        self.p = [1.0]
        for p, q, x in zip(target, draft, drafted, strict=False):
            self.p.append(min(1.0, self.p[-1] * _ratio(p, q, x)))

    def probability(self, i: int) -> float:
        """h_{i + 1}: of keeping drafted[: i + 1] at least, given that no longer prefix is kept."""
        p = self.p[i + 1]
        if i + 1 == len(self._draft):
            return p
        z = float(_excess(self._target[i + 1], self._draft[i + 1], p).sum())
        return z / (z + 1 - p) if z + 1 - p > 0 else 1.0

    def accepted(self, uniforms: Sequence[float]) -> int:
        """Length of the kept prefix; gamma uniforms in [0, 1)."""
        for i in reversed(range(len(uniforms))):
            if uniforms[i] < self.probability(i):
                return i + 1
        return 0

    def weight(self, accepted: int) -> float:
        """The residual's weight on P after `accepted` kept tokens: p_tau."""
        return self.p[accepted]


_RULES = {"token": TokenPlan, "block": BlockPlan}
METHODS = tuple(_RULES)
