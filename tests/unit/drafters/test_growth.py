"""Trees grown from estimates, against all trees there are."""

from itertools import product

import pytest

from specpress.drafters.growing.growth import Guide, grow
from specpress.schedules.base import never


class Table(Guide):
    """Knows what may follow each token; a state is the last token, a context begins after token 0."""

    def __init__(self, table):
        self.table = table

    def root(self):
        return 0

    def after(self, state, token):
        return token if token in self.table else None

    def likely(self, state):
        return self.table[state]


TABLE = {0: [(1, 0.5), (2, 0.3), (3, 0.1)], 1: [(2, 0.6), (3, 0.2)], 2: [(1, 0.9)], 3: [(3, 0.4), (0, 0.2)]}


def paths(tree):
    """The tokens on the way to each node, in the order the nodes were added."""
    found = []
    for token, parent in zip(tree.tokens, tree.parents, strict=True):
        found.append(((*found[parent],) if parent >= 0 else ()) + (token,))
    return found


def reached(path):
    probability = 1.0
    for before, token in zip((0, *path), path, strict=False):
        probability *= dict(TABLE[before]).get(token, 0)
    return probability


@pytest.mark.parametrize("nodes", [1, 3, 7, 12])
def test_the_nodes_most_likely_reached_come_first(nodes):
    tree = grow([Table(TABLE)], nodes, never)
    every = sorted((reached(p) for depth in range(1, 8) for p in product(range(4), repeat=depth)), reverse=True)
    assert tree.reached == pytest.approx(every[:nodes])
    assert [reached(path) for path in paths(tree)] == pytest.approx(tree.reached)
    assert len(set(paths(tree))) == nodes
    assert all(parent < node for node, parent in enumerate(tree.parents))


def test_a_path_takes_the_likeliest_child():
    assert paths(grow([Table(TABLE)], 4, never, "path")) == [(1,), (1, 2), (1, 2, 1), (1, 2, 1, 2)]


def test_a_fixed_shape_is_the_same_whatever_the_estimates():
    flat = {state: [(token, 0.01) for token, _ in likely] for state, likely in TABLE.items()}
    assert paths(grow([Table(TABLE)], 5, never, "fixed")) == paths(grow([Table(flat)], 5, never, "fixed"))
    assert paths(grow([Table(TABLE)], 4, never, "fixed")) == [(1,), (2,), (1, 2), (3,)]


def test_stops_after_a_node_that_it_includes():
    told = []
    tree = grow([Table(TABLE)], 9, lambda probability: told.append(probability) or probability < 0.3)
    assert told == tree.reached
    assert tree.reached[-1] < 0.3 <= tree.reached[-2]


def test_a_second_guide_shares_out_what_the_first_leaves():
    first, second = Table({0: [(1, 0.6)]}), Table({0: [(2, 0.7), (1, 0.3)], 1: [(5, 0.5)]})
    tree = grow([first, second], 3, never)
    assert paths(tree) == [(1,), (1, 5), (2,)]
    assert tree.reached == pytest.approx([0.6 + 0.4 * 0.3, 0.72 * 0.5, 0.4 * 0.7])


def test_nothing_known_is_no_tree():
    tree = grow([Table({0: []})], 4, never)
    assert len(tree.proposal().tokens) == 0
    assert grow([], 4, never).tokens == []
