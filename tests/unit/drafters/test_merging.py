import numpy as np
import torch

from specpress.drafters.growing.merging import merged
from specpress.laws.law import Law, point
from specpress.speculation.drafter import Proposal

HALVES = Law(np.array([1, 2]), np.array([0.5, 0.5]))


def proposal(tokens, laws, parents=None):
    return Proposal(torch.tensor(tokens, dtype=torch.long), laws, parents)


def sure(tokens, parents=None):
    return proposal(tokens, [point(token) for token in tokens], parents)


def shape(tree):
    return tree.tokens.tolist(), list(tree.parents)


def test_common_beginnings_are_proposed_once():
    tree = merged([sure([1, 2, 3]), sure([1, 2, 4, 5], [-1, 0, 0, -1])])
    assert shape(tree) == ([1, 2, 3, 4, 5], [-1, 0, 1, 0, -1])


def test_what_is_sure_joins_a_drawn_sibling_and_leaves_its_law():
    tree = merged([proposal([1, 2], [HALVES, HALVES]), sure([1, 3])])
    assert shape(tree) == ([1, 2, 3], [-1, 0, 0])
    assert tree.laws[0] is HALVES
    assert tree.laws[1] is HALVES


def test_a_drawn_token_stays_beside_an_equal_sibling():
    tree = merged([sure([1, 3]), proposal([1, 2], [HALVES, HALVES])])
    assert shape(tree) == ([1, 3, 1, 2], [-1, 0, -1, 2])
    assert [law is HALVES for law in tree.laws] == [False, False, True, True]


def test_nothing_proposed_is_nothing():
    assert shape(merged([sure([]), sure([])])) == ([], [])
