"""Proposals of several drafters as one tree."""

from collections.abc import Sequence

import torch

from specpress.laws.law import Law
from specpress.speculation.drafter import Proposal


def merged(proposals: Sequence[Proposal]) -> Proposal:
    """One tree of all nodes: after each common beginning, the children of the first proposal, then those of the next.

    A child that was not drawn (its law is all on it) and equals an earlier sibling is that sibling, whatever law the
    sibling has: given its siblings, that it is left out depends on nothing else. A drawn child stays beside an equal
    sibling, for to leave it out because of its value would bias what it stands for; so verification sees each law that
    a token was drawn from.
    """
    tokens: list[int] = []
    laws: list[Law] = []
    parents: list[int] = []
    known: list[dict[int, int]] = [{}]  # the children of each node by token, those of the context last
    for proposal in proposals:
        drafted = proposal.tokens.tolist()
        above = range(-1, len(drafted) - 1) if proposal.parents is None else proposal.parents
        places = [*([0] * len(drafted)), -1]
        for node, (token, law, parent) in enumerate(zip(drafted, proposal.laws, above, strict=True)):
            siblings = known[places[parent]]
            if token in siblings and len(law.tokens) == 1:
                places[node] = siblings[token]
                continue
            places[node] = len(tokens)
            siblings.setdefault(token, len(tokens))
            tokens.append(token)
            laws.append(law)
            parents.append(places[parent])
            known.insert(len(tokens) - 1, {})
    return Proposal(torch.tensor(tokens, dtype=torch.long), laws, parents)
