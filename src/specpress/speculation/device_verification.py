"""Verification where the laws are: the rules of `specpress.speculation.verification` on whole rows, read back once.

The rules on the host are the oracle: the same uniforms give the same tokens, unless one falls within some 1e-12 of a
threshold (sums of float64 in another order).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from specpress.laws.device import DeviceLaws, drawn, widened
from specpress.laws.law import NO_NUMBERS, Law
from specpress.laws.sampling import Randomness


def verify_on_device(
    method: str, target: DeviceLaws, draft: Sequence[Law], drafted: Tensor, randomness: Randomness
) -> tuple[int, list[int]]:
    """How many of the drafted tokens, LongTensor (gamma,), are kept, and those kept with the token that follows them.

    One copy of gamma + 2 integers comes back. For the laws see `specpress.speculation.verification.verify`; those of
    the draft may be on the host.

    Raises
    ------
    ValueError
        Logits of the target or the draft that leave no law.
    """
    gamma, device = len(drafted), target.mass.device
    drafted = drafted.to(device)
    width = max(target.mass.shape[1], *(_width(law) for law in _some(draft)))
    p, q = widened(target.mass, width), DeviceLaws.gathered(draft, width, device)
    uniforms = randomness.on(device, gamma + 1)
    accepted, weight = _RULES[method](p, q.mass, _ratios(p, q.mass, drafted), uniforms[:gamma])
    token = drawn(_residual(p, q.mass, accepted, weight), uniforms[gamma:])
    kept = torch.arange(gamma, device=device) < accepted
    committed = torch.where(F.pad(kept, (0, 1)), F.pad(drafted, (0, 1)), token)
    sound = target.sound.all() & q.sound.all()
    accepted, *tokens = torch.cat([torch.where(sound, accepted, -1), committed]).tolist()
    if accepted < 0:
        raise ValueError(NO_NUMBERS)
    return accepted, tokens[: accepted + 1]


def _some(draft: Sequence[Law]) -> list:
    return [draft] if isinstance(draft, DeviceLaws) else list(draft)


def _width(laws: DeviceLaws | Law) -> int:
    return laws.mass.shape[1] if isinstance(laws, DeviceLaws) else int(laws.tokens.max()) + 1


def _ratios(p: Tensor, q: Tensor, drafted: Tensor) -> Tensor:
    """P(x) / Q(x) of each drafted token x, (gamma,)."""
    chosen = drafted[:, None]
    return (p[:-1].gather(1, chosen) / q.gather(1, chosen))[:, 0]


def _token(p: Tensor, q: Tensor, ratios: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """See `TokenPlan`: (accepted, the residual's weight), (1,) each."""
    kept = uniforms < ratios.clamp(max=1.0)
    return kept.long().cumprod(0).sum(0, keepdim=True), torch.ones_like(uniforms[:1])


def _block(p: Tensor, q: Tensor, ratios: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """See `BlockPlan`: (accepted, the residual's weight p_tau, 1 where all are accepted), (1,) each."""
    steps = [torch.ones_like(ratios[0])]
    for ratio in ratios.unbind():
        steps.append((steps[-1] * ratio).clamp(max=1.0))
    reached = torch.stack(steps)  # p_0 to p_gamma
    before_last = reached[1:-1]
    z = (before_last[:, None] * p[1:-1] - q[1:]).clamp_(min=0).sum(-1)
    rest = z + 1 - before_last
    h = torch.cat([torch.where(rest > 0, z / rest, 1.0), reached[-1:]])
    places = torch.arange(1, len(ratios) + 1, device=p.device)
    accepted = torch.where(uniforms < h, places, 0).amax(0, keepdim=True)
    weights = torch.cat([reached[:-1], torch.ones_like(reached[:1])])
    return accepted, weights.index_select(0, accepted)


def _residual(p: Tensor, q: Tensor, accepted: Tensor, weight: Tensor) -> Tensor:
    """max(weight P - Q, 0) after `accepted` tokens, P where that is nothing or no token was rejected, (1, width)."""
    row = p.index_select(0, accepted)
    against = F.pad(q, (0, 0, 0, 1)).index_select(0, accepted)
    excess = (weight[:, None] * row - against).clamp_(min=0)
    return torch.where(excess.sum(-1, keepdim=True) > 0, excess, row)


_RULES = {"token": _token, "block": _block, "traversal": _block, "recursive": _token}
ON_DEVICE = frozenset(_RULES)  # other rules read the laws on the host
