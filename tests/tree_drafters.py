"""Tree drafters for tests: plain, without caches, with laws that can be looked at from outside."""

from collections.abc import Callable

import numpy as np
import torch

from specpress.drafters import Drafter, Proposal
from specpress.engine.tree import Tree
from specpress.laws.law import Law, law_of, point
from specpress.laws.sampling import SamplingParams

BINARY = (-1, -1, 0, 0, 1)


class Branching(Drafter):
    """Sample the children of each node of a fixed shape from a small model's law, without replacement unless told."""

    branches = True

    def __init__(self, model, parents=BINARY, replacement=False, top=0):
        self.model, self.tree, self.replacement, self.top = model, Tree(parents), replacement, top

    def start(self, target, sampling, randomness, capacity):
        """Remember how to draw; where nothing is drawn, all children are the most likely ones."""
        self.sampling, self.randomness = sampling, randomness
        if sampling.greedy:
            self.sampling, self.top = SamplingParams(), len(self.tree)

    def models(self):
        """The small model."""
        return (self.model,)

    def propose(self, context: torch.Tensor, gamma: int, stop: Callable[[float], bool]) -> Proposal:
        """As many nodes of the shape as gamma allows; children that no law is left for are left out."""
        tokens, laws, parents, place = [], [], [], {-1: -1}
        known = {}  # the law after each node
        for node, parent in enumerate(self.tree.parents):
            if parent not in place or len(tokens) == gamma:
                continue
            path = [tokens[place[i]] for i in self.tree.path_to(parent)]
            earlier = [tokens[i] for i, p in enumerate(parents) if p == place[parent]]
            if parent not in known:
                known[parent] = self._after([*context.tolist(), *path])
            law = self._of_child(known[parent], earlier, rank=len(earlier))
            if law is not None:
                place[node] = len(tokens)
                parents.append(place[parent])
                laws.append(law)
                tokens.append(law.draw(self.randomness.uniform())[0] if len(law.tokens) > 1 else int(law.tokens[0]))
        return Proposal(torch.tensor(tokens, dtype=torch.long), laws, parents)

    def _after(self, text: list[int]) -> Law:
        tokens = torch.tensor([text], device=self.model.device)
        with torch.inference_mode():
            return law_of(self.model(tokens, use_cache=False).logits[0, -1], self.sampling)

    def _of_child(self, law: Law, earlier: list[int], rank: int) -> Law | None:
        """The first `top` children are the most likely ones, the others drawn."""
        left = np.array([self.replacement or token not in earlier for token in law.tokens.tolist()])
        if not left.any():
            return None
        law = Law(law.tokens[left], law.mass[left] / law.mass[left].sum())
        return point(int(law.tokens[law.mass.argmax()])) if rank < self.top else law
