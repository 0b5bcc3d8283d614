"""Targets and drafters over three tokens, in fractions: every law, proposal and outcome can be written down."""

import random
from fractions import Fraction
from functools import cache

import numpy as np

from specpress.engine.tree import Tree
from specpress.laws.law import Law
from specpress.speculation.enumeration import Draft

VOCABULARY = 3
SHAPES = {
    "one": [-1],
    "path": [-1, 0, 1],
    "two": [-1, -1],
    "three": [-1, -1, -1],
    "fork behind": [-1, 0, 0],
    "comb": [-1, -1, 0, 2],
    "breadth first": [-1, -1, 0, 0, 1],
    "depth first": [-1, 0, 0, -1, 3],
}
MIXES = ("with replacement", "without replacement", "most likely", "most likely, then sampled", "mixed sources")


def exact(tokens, masses):
    """A law in fractions on the tokens that have mass, normalised."""
    kept = [(token, Fraction(mass)) for token, mass in zip(tokens, masses, strict=True) if mass]
    total = sum(mass for _, mass in kept)
    return Law(np.array([token for token, _ in kept]), np.array([mass / total for _, mass in kept], object))


def point(token):
    return exact([token], [1])


class World:
    """Random laws of a target and a draft after every text, each of small whole numbers; some have no mass."""

    def __init__(self, seed):
        self._seed = seed
        self.target, self.draft = cache(self._target), cache(self._draft)

    def _target(self, text):
        return self._law("target", text, least=0)

    def _draft(self, text):
        return self._law("draft", text, least=1)  # so that there is always a next child to draw

    def _law(self, whose, text, least):
        generator = random.Random(f"{self._seed} {whose} {text}")
        masses = [generator.randint(least, 5) for _ in range(VOCABULARY)]
        return exact(range(VOCABULARY), masses if any(masses) else [1] * VOCABULARY)

    def child(self, mix, text, earlier, node):
        """The law of a child after `text`, given the tokens of its earlier siblings."""
        law, rank = self.draft(text), len(earlier)
        by_mass = sorted(law.tokens.tolist(), key=lambda token: -law.probability(token))
        if mix == "with replacement" or (mix == "mixed sources" and node % 2):
            return law
        if mix == "most likely" or (mix == "most likely, then sampled" and not rank):
            return point(by_mass[rank])
        if mix == "mixed sources":  # a looked up token beside samples, which may be drawn again
            return point((sum(text) + self._seed) % VOCABULARY)
        left = [token for token in law.tokens.tolist() if token not in earlier]
        return exact(left, [law.probability(token) for token in left])

    def drafts(self, shape, mix, claimed=None):
        """All proposals of a shape. `claimed`: what the drafter says its laws are, if that is not the truth."""
        tree = Tree(shape)

        def grow(tokens, laws, probability):
            node = len(tokens)
            if node == len(tree):
                yield Draft(probability, tokens, laws, tree)
                return
            text = tuple(tokens[i] for i in tree.path_to(tree.parents[node]))
            earlier = [tokens[i] for i in tree.children[tree.parents[node]] if i < node]
            law, said = (self.child(which, text, earlier, node) for which in (mix, claimed or mix))
            for token, mass in zip(law.tokens.tolist(), law.mass.tolist(), strict=True):
                yield from grow((*tokens, token), (*laws, said), probability * mass)

        return grow((), (), Fraction(1))
