"""Verification by exact enumeration in fractions: every proposal, every outcome; total variation 0 is 0."""

import random
from fractions import Fraction

import numpy as np
import pytest
from small_worlds import MIXES, SHAPES, VOCABULARY, World, exact
from wrong_rules import Biased, PublicVariant

import specpress.speculation.verification as verification
from specpress.engine.tree import Tree
from specpress.laws.law import Law, point
from specpress.laws.sampling import Randomness
from specpress.speculation.enumeration import joint, outcomes, output, total_variation
from specpress.speculation.verification import METHODS, OF_TREES, RULES, Rest, verify

BROAD = ("two", "three", "breadth first")  # shapes in which a node has several children


def enumerated(rule, world, shape, mix, **options):
    length = max(Tree(shape).depths) + 1
    found = output(RULES[rule], world.target, world.drafts(shape, mix, **options), length)
    return total_variation(found.law, joint(world.target, length)), found.accepted


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_text_follows_the_target_and_traversal_accepts_no_less(shape, mix):
    for seed in range(3):
        check(World(seed), SHAPES[shape], mix)


def check(world, shape, mix):
    off, accepted = zip(*(enumerated(rule, world, shape, mix) for rule in ("traversal", "recursive")), strict=True)
    assert off == (0, 0)
    assert isinstance(off[0], Fraction | int)
    assert accepted[0] >= accepted[1]


@pytest.mark.parametrize("seed", range(15))
def test_so_it_is_for_shapes_that_chance_made(seed):
    generator, shape = random.Random(seed), [-1]
    while len(shape) < 5:
        parent = generator.randrange(-1, len(shape))
        if shape.count(parent) < VOCABULARY:
            shape.append(parent)
    check(World(100 + seed), shape, MIXES[seed % len(MIXES)])


def test_traversal_accepts_more_somewhere():
    accepted = [enumerated(rule, World(0), SHAPES["breadth first"], "without replacement")[1] for rule in OF_TREES]
    assert accepted[0] > accepted[1] > 0


def test_on_a_path_the_rules_are_those_of_paths():
    assert RULES["block"] is RULES["traversal"]
    assert RULES["token"] is RULES["recursive"]


def test_the_papers_example():
    """Sun et al. (2024), section 2: context-independent laws (1/3, 2/3) and (2/3, 1/3), gamma 2: 11/9 against 10/9."""
    world = World(0)
    world.target, world.draft = (lambda text, masses=masses: exact(range(2), masses) for masses in ([1, 2], [2, 1]))
    for rule, mean in (("token", Fraction(10, 9)), ("block", Fraction(11, 9))):
        found = output(RULES[rule], world.target, world.drafts([-1, 0], "with replacement"), 3)
        assert found.accepted == mean


# Negative controls: each way to be wrong must show.


@pytest.mark.parametrize(
    ("wrong", "rule"), [(Biased, "traversal"), (Biased, "recursive"), (PublicVariant, "traversal")]
)
def test_a_wrong_residual_is_seen(wrong, rule, monkeypatch):
    monkeypatch.setattr(verification, "Rest", wrong)
    assert any(
        enumerated(rule, World(seed), SHAPES["breadth first"], "without replacement")[0] > 0.01 for seed in range(3)
    )


@pytest.mark.parametrize("rule", OF_TREES)
@pytest.mark.parametrize("shape", BROAD)
def test_a_sibling_that_was_not_removed_is_seen(shape, rule):
    """Children are drawn without replacement, but the drafter gives the law of the first for all."""
    off = [
        enumerated(rule, World(seed), SHAPES[shape], "without replacement", claimed="with replacement")[0]
        for seed in range(3)
    ]
    assert max(off) > 0.01


# The rules as they are called: with draws, floats and laws on their supports.


def test_outcomes_have_probability_one():
    world, tree = World(1), Tree(SHAPES["comb"])
    for rule in OF_TREES:
        kept = set()
        for draft in world.drafts(tree.parents, "with replacement"):
            target = [world.target(tuple(draft.tokens[i] for i in tree.path_to(node))) for node in range(-1, len(tree))]
            found = list(outcomes(RULES[rule], target, draft.laws, draft.tokens, tree))
            assert sum(chance for _, _, chance in found) == 1
            kept |= {node for node, _, _ in found}
        assert kept == {-1, 0, 1, 2, 3}


def floats(law):
    return Law(law.tokens, law.mass.astype(float))


@pytest.mark.parametrize("rule", OF_TREES)
def test_the_drawn_verdicts_follow_the_enumerated_law(rule):
    """verify() itself, with its random draws: the first two tokens follow the target (chi-square, 1e-9)."""
    from scipy.stats import chisquare

    world, tree, randomness = World(4), Tree(SHAPES["breadth first"]), Randomness(0)
    expected, counts, rounds = joint(world.target, 2), {}, 6000
    for _ in range(rounds):
        drafted, laws = [], []
        for node, parent in enumerate(tree.parents):
            text = tuple(drafted[i] for i in tree.path_to(parent))
            earlier = [drafted[i] for i in tree.children[parent] if i < node]
            laws.append(floats(world.child("without replacement", text, earlier, node)))
            drafted.append(laws[-1].draw(randomness.uniform())[0])
        texts = [tuple(drafted[i] for i in tree.path_to(node)) for node in range(-1, len(tree))]
        kept, token = verify(rule, [floats(world.target(text)) for text in texts], laws, drafted, randomness, tree)
        text = (*(drafted[i] for i in kept), token)
        while len(text) < 2:
            text = (*text, floats(world.target(text)).draw(randomness.uniform())[0])
        counts[text[:2]] = counts.get(text[:2], 0) + 1
    assert set(counts) <= set(expected)
    observed = [counts.get(text, 0) for text in expected]
    assert chisquare(observed, [float(p) * rounds for p in expected.values()], sum_check=False).pvalue > 1e-9


@pytest.mark.parametrize("rule", METHODS)
def test_greedy_keeps_the_agreeing_prefix_and_corrects_the_next(rule):
    p = [point(token) for token in (1, 2, 3, 4)]  # the target's choices
    for drafted, verdict in (([1, 2, 0], ([0, 1], 3)), ([1, 2, 3], ([0, 1, 2], 4)), ([0, 2, 3], ([], 1))):
        assert verify(rule, p, [point(token) for token in drafted], drafted, Randomness(0)) == verdict


@pytest.mark.parametrize("rule", OF_TREES)
def test_greedy_keeps_the_agreeing_path_of_a_tree(rule):
    """1 or 2, after 2 comes 1 or 3: the target wants 2 3, and 4 after that."""
    tree, drafted = Tree([-1, -1, 1, 1]), [1, 2, 1, 3]
    target = Asked([point(2), None, point(3), None, point(4)])  # the law after a refused node is not even made
    verdict = verify(rule, target, [point(token) for token in drafted], drafted, Randomness(0), tree)
    assert verdict == ([1, 3], 4)
    assert target.asked == {0, 2, 4}


class Asked(list):
    """Laws, and which of them were asked for."""

    def __init__(self, laws):
        super().__init__(laws)
        self.asked = set()

    def __getitem__(self, i):
        self.asked.add(i)
        return super().__getitem__(i)


def test_nothing_drafted_draws_from_the_target():
    assert verify("token", [point(2)], [], [], Randomness(0)) == ([], 2)


def test_token_verification_does_not_look_behind_a_rejection():
    target = Asked([point(1), point(2), point(3), point(4)])
    drafted = [1, 0, 3]
    assert verify("token", target, [point(token) for token in drafted], drafted, Randomness(0)) == ([0], 2)
    assert target.asked == {0, 1}


def test_laws_that_are_refused_leave_the_originals_as_they_are():
    target, draft = (Law(np.arange(2), np.array(mass)) for mass in ([0.25, 0.75], [0.75, 0.25]))
    rest = Rest([target], -1)
    rest.refuse(draft)
    assert rest.law.mass.tolist() == [0, 0.5]
    rest = Rest([target], -1)
    rest.refuse(target)  # equal laws: nothing is left, and the law itself is the limit
    assert rest.law is target
    assert (target.mass.tolist(), draft.mass.tolist()) == ([0.25, 0.75], [0.75, 0.25])


@pytest.mark.parametrize("rule", METHODS)
def test_a_token_that_its_law_cannot_have_drawn_is_refused(rule):
    with pytest.raises(ValueError, match="proposed token 1, which the law it gave for it cannot have drawn"):
        verify(rule, [point(1)] * 2, [point(2)], [1], Randomness(0))


@pytest.mark.parametrize("rule", ["token", "block"])
def test_a_tree_is_refused_by_the_rules_of_paths(rule):
    with pytest.raises(ValueError, match="proposes trees; use 'traversal' or 'recursive'"):
        verify(rule, [point(1)] * 3, [point(1)] * 2, [1, 1], Randomness(0), Tree([-1, -1]))
    assert verify(rule, [point(1)] * 3, [point(1)] * 2, [1, 1], Randomness(0), Tree([-1, 0])).kept == [0, 1]


def test_vocabulary_of_the_worlds():
    assert {token for mix in MIXES for draft in World(0).drafts([-1], mix) for token in draft.tokens} == set(
        range(VOCABULARY)
    )
