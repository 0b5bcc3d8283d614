"""Every proposal that a drafter can make, every outcome of its verification: the law of the text, without chance.

A drafter is asked again and again with uniforms that are chosen: for each token it draws, one uniform just inside each
end of the token's share of the law that the drafter gives. So it is seen whether it draws from the law it gives, and
each proposal has the probability that its laws say. A drafter that draws otherwise than with one uniform a token, in
the order of the tokens, cannot be enumerated.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from specpress.certification.small import model, text
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.tree import Tree
from specpress.laws.law import Law, law_of
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.models.vocabulary import one_vocabulary
from specpress.schedules.base import never
from specpress.speculation.drafter import Drafter, Proposal
from specpress.speculation.enumeration import Draft, Output, Text, joint, output, total_variation
from specpress.speculation.prefill import prefill
from specpress.speculation.verification import Rule

PLAIN = SamplingParams()
CASES = (("llama", 1, 4), ("gpt_neox", 2, 3))  # family, seed of the context, nodes
_CONTEXT = 12
_INSIDE = 1e-6  # of a token's share of the law, from its ends
_RARE = 1e-9  # probability of a token that is left out: no uniform lies safely inside its share
_NOTHING = 1e-8  # total variation that rounding, and what is left out, explain


class NotEnumerableError(Exception):
    """The drafter draws in a way of its own."""


class WrongLawError(Exception):
    """The drafter does not draw from the laws it gives."""


class Finding(NamedTuple):
    """What was found of a drafter under a rule. `broken` says what is wrong; None: nothing is."""

    proposals: int
    off: float  # total variation between the law of the text and the target's
    broken: str | None
    drafted: int = 0  # tokens


def certify(make: Callable[[str], Callable[[], Drafter]], rule: Rule) -> Finding:
    """Enumerate a drafter under a rule on small laws of both families.

    Parameters
    ----------
    make : by family, what makes fresh drafters

    Raises
    ------
    NotEnumerableError
        If the drafter draws otherwise than by one uniform a token.
    """
    proposals, off, drafted = 0, 0.0, 0
    for family, seed, nodes in CASES:
        context, laws = text(_CONTEXT, seed), _target_laws(family, seed)
        try:
            drafts = list(proposed(make(family), model(family), context, nodes))
        except WrongLawError as wrong:
            return Finding(proposals, float("nan"), f"{wrong}, after {context.tolist()}")
        length = max(max(draft.tree.depths, default=0) for draft in drafts) + 1
        found, expected = output(rule, laws, drafts, length), joint(laws, length)
        proposals, apart = proposals + len(drafts), total_variation(found.law, expected)
        if apart > _NOTHING:
            return Finding(proposals, apart, f"{_worst(found, expected)}, after {context.tolist()}")
        off = max(off, apart)
        drafted += sum(len(draft.tokens) for draft in drafts)
    return Finding(proposals, off, None, drafted)


def _worst(found: Output, expected) -> str:
    worst = max({*found.law, *expected}, key=lambda text: abs(found.law.get(text, 0) - expected.get(text, 0)))
    got, due = found.law.get(worst, 0), expected.get(worst, 0)
    return f"the text {list(worst)} has probability {got:.4f}, under the target's law {due:.4f}"


def _target_laws(family: str, seed: int) -> Callable[[Text], Law]:
    """The target's law after each text, each from a plain forward of the model's own modules."""
    target, context = model(family), text(_CONTEXT, seed)

    @cache
    def law(text: Text) -> Law:
        tokens = torch.cat([context, torch.tensor(text, dtype=torch.long)])
        with torch.inference_mode():
            return law_of(target(tokens[None], use_cache=False).logits[0, -1], PLAIN)

    return law


def proposed(make: Callable[[], Drafter], target: nn.Module, context: Tensor, nodes: int) -> Iterator[Draft]:
    """Every proposal of up to `nodes` tokens after `context`, LongTensor (n,), with its probability."""
    ahead: list[tuple[tuple[float, ...], float]] = [((), 1.0)]
    while ahead:
        script, probability = ahead.pop()
        proposal, asked = _ask(make, target, context, nodes, script)
        tree, tokens = proposal.tree or Tree.path(len(proposal.tokens)), proposal.tokens.tolist()
        drawn = _drawn(proposal, asked)
        if len(script) > len(drawn):
            raise NotEnumerableError(f"it used {len(drawn)} uniforms where it had used {len(script)}")
        if len(script) == len(drawn):
            yield Draft(probability, tokens, [proposal.laws[i] for i in range(len(tokens))], tree)
            continue
        node = drawn[len(script)]
        for token, share, (low, high) in _shares(proposal.laws[node]):
            for uniform in (low, high):
                again, _ = _ask(make, target, context, nodes, (*script, uniform))
                got = again.tokens.tolist()
                if len(got) <= node:
                    raise NotEnumerableError(f"it leaves out node {node} when it draws token {token}")
                if got[node] != token:
                    raise WrongLawError(
                        f"node {node} is token {got[node]} where the law given for it says {token}: it is not drawn "
                        "from that law"
                    )
            ahead.append(((*script, (low + high) / 2), probability * share))


def _drawn(proposal: Proposal, asked: int) -> Sequence[int]:
    """The nodes for which a uniform was asked."""
    every = range(len(proposal.tokens))
    choices = [node for node in every if len(proposal.laws[node].tokens) > 1]
    for nodes in (every, choices):
        if len(nodes) == asked:
            return nodes
    raise NotEnumerableError(f"it used {asked} uniforms for {len(every)} tokens, {len(choices)} of which it chose")


def _shares(law: Law) -> Iterator[tuple[int, float, tuple[float, float]]]:
    """(token, its mass, the uniforms just inside its share) of each token with mass."""
    total, reached = float(law.mass.sum()), 0.0
    for token, mass in zip(law.tokens.tolist(), (law.mass / total).tolist(), strict=True):
        if mass > _RARE:
            yield token, mass, (reached + _INSIDE * mass, reached + (1 - _INSIDE) * mass)
        reached += mass


class _Scripted(Randomness):
    """Uniforms that are chosen; those that are not are a half. `asked`: how many were."""

    def __init__(self, script: Sequence[float]):
        super().__init__(seed=0)
        self._script, self.asked = script, 0
        self._next = self._of_script

    def _of_script(self) -> float:
        self.asked += 1
        return self._script[self.asked - 1] if self.asked <= len(self._script) else 0.5


def _ask(make, target: nn.Module, context: Tensor, nodes: int, script: Sequence[float]) -> tuple[Proposal, int]:
    """What a fresh drafter proposes, and how many uniforms it asks for."""
    drafter, randomness, capacity = make(), _Scripted(script), len(context) + nodes
    models = (target, *drafter.models())
    with one_vocabulary(*models), decode_attention(*models):
        drafter.start(target, PLAIN, randomness, capacity)
        prefill(CachedModel(target, capacity), context[None, :-1], drafter=drafter)
        return drafter.propose(context, nodes, never), randomness.asked
