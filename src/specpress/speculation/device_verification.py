"""Verification of paths where the laws are: the rules of `specpress.speculation.verification` on whole rows, read once.

What a rule decides by does not depend on what it decides: the weights of all nodes are computed, then compared with
their uniforms at once. The rules on the host are the oracle: the same uniforms give the same tokens, unless one falls
within some 1e-12 of a threshold (sums of float64 in another order). They also decide a round in which a law is none,
or a drafted token has no mass: behind refused tokens they do not look, and where they look they refuse the round.

Of trees there are too many shapes to record what is launched for each, and launched one by one it takes longer than to
read the supports of a few laws: they are the host's (see `specpress.speculation.rounds.judge`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from specpress.engine.tree import Tree
from specpress.hardware.recording import Recorded
from specpress.laws.device import DeviceLaws, drawn, widened
from specpress.laws.law import NO_NUMBERS, Law
from specpress.laws.sampling import Randomness
from specpress.speculation.verification import RULES, Rule, recursive, traversal

ON_DEVICE = (traversal, recursive)  # other rules read the laws on the host


def verify_on_device(
    method: str, target: DeviceLaws, draft: Sequence[Law], drafted: Tensor, randomness: Randomness
) -> tuple[list[int], list[int]]:
    """Which of the drafted tokens, LongTensor (n,), a path, are kept, and those kept with the token that follows them.

    One copy of 2 n + 2 integers comes back. For the others see `specpress.speculation.verification.verify`; the laws of
    the draft may be on the host.

    Raises
    ------
    ValueError
        Logits of the draft that leave no law, or of the target where its law is needed.
    ImpossibleDraftError
        A drafted token that its law cannot have drawn, where the rule asks for it.
    """
    nodes, device, drafted = len(drafted), target.mass.device, drafted.to(target.mass.device)
    width = max(target.mass.shape[1], *(_width(law) for law in _some(draft)))
    p, q = widened(target.mass, width), DeviceLaws.gathered(draft, width, device)
    uniforms, rule = randomness.on(device, nodes + 1), RULES[method]
    (outcome,) = outcome_of(drafted, uniforms, p, q.mass, target.sound, q.sound, constants=(rule,))
    sound, token, *rest = outcome.tolist()
    if not sound:
        return _on_the_host(rule, target, q, drafted.tolist(), uniforms.tolist())
    path = [node for node in range(nodes) if rest[node]]
    return path, [*(rest[nodes + node] for node in path), token]


def _on_the_host(
    rule: Rule, target: DeviceLaws, draft: DeviceLaws, drafted: list[int], uniforms: list[float]
) -> tuple[list[int], list[int]]:
    """`verify_on_device` by the rule on the host, which reads the laws and refuses those it cannot use."""
    if not draft.sound.all():
        raise ValueError(NO_NUMBERS)  # as where it was drafted from
    tree = Tree.path(len(drafted))
    node, law = rule(target, draft, drafted, tree, lambda node, kept: uniforms[node] < kept)
    path = tree.path_to(node)
    return path, [*(drafted[node] for node in path), law.draw(uniforms[-1])[0]]


@Recorded
def outcome_of(
    drafted: Tensor, uniforms: Tensor, p: Tensor, q: Tensor, p_sound: Tensor, q_sound: Tensor, rule: Rule
) -> tuple[Tensor]:
    """What is read of a verification, LongTensor (2 n + 2,): whether all laws are sound and have mass on their tokens,
    the last token, which of the drafted tokens, (n,), are kept, and these tokens.

    uniforms : float64 (n + 1,); p, q : laws of the target, (n + 1, width), and of the draft, (n, width)
    """
    nodes = len(drafted)
    drawn_with, likely = (laws[:nodes].gather(1, drafted[:, None])[:, 0] for laws in (q, p))
    reached = _reached(likely / drawn_with, rule)
    # Of the laws after each token but the last, what is left once the next is refused: see `Rest`. Each weighs what it
    # was reached with in traversal, else one, as the first does.
    weights = torch.cat([torch.ones_like(reached[:1]), reached[:-1]]) if rule is traversal else torch.ones_like(reached)
    excess = (weights[:, None] * p[:nodes]).sub_(q).clamp_(min=0)
    left = excess.sum(-1)
    rest = left + (1 - weights)
    laws = torch.cat([torch.where(rest[:, None] > 0, excess, p[:nodes]), p[nodes:]])
    places = torch.arange(1, nodes + 1, device=p.device)
    if rule is traversal:  # lowest first: up to the last whose uniform falls under its weight
        weights = torch.cat([torch.where(rest > 0, left / rest, weights)[1:], reached[-1:]])
        last = ((uniforms[:nodes] < weights) * places).amax(0, keepdim=True)
    else:
        last = (uniforms[:nodes] < reached).cumprod(0).sum(0, keepdim=True)
    token = drawn(laws.index_select(0, last), uniforms[nodes:])
    sound = torch.cat([p_sound, q_sound, drawn_with > 0]).all(0, keepdim=True)
    return (torch.cat([sound, token, places <= last, drafted]),)


def _reached(ratios: Tensor, rule: Rule) -> Tensor:
    """min(1, a P(x) / Q(x)) of each token, float64 (n,): a is that of the token before in traversal, else one."""
    if rule is not traversal:
        return ratios.clamp(max=1.0)
    weight, reached = torch.ones_like(ratios[0]), []
    for ratio in ratios:
        weight = (weight * ratio).clamp(max=1.0)
        reached.append(weight)
    return torch.stack(reached)


def _some(draft: Sequence[Law]) -> list:
    return [draft] if isinstance(draft, DeviceLaws) else list(draft)


def _width(laws: DeviceLaws | Law) -> int:
    return laws.mass.shape[1] if isinstance(laws, DeviceLaws) else int(laws.tokens.max()) + 1
