"""Greedy laws where the logits are against those of the host, on CPU tensors; and how seldom they are read."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from instruments import NoHostReads
from tree_drafters import BINARY

from specpress.engine.tree import Tree
from specpress.laws.engines import joined, laws_there, selected
from specpress.laws.law import Head, Laws
from specpress.laws.points import Points
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.speculation.drafter import Proposal
from specpress.speculation.rounds import judge
from specpress.speculation.verification import METHODS, OF_TREES, verify

GREEDY, V = SamplingParams(temperature=0), 9


def rows(count, seed):
    """Logits with ties among them."""
    return torch.randint(0, 4, (count, V), generator=torch.Generator().manual_seed(seed)).float()


@given(seed=st.integers(0, 999), dtype=st.sampled_from([torch.float32, torch.bfloat16]), part=st.booleans())
def test_laws_and_draws_are_the_hosts(seed, dtype, part):
    tokens = torch.arange(0, 2 * V, 2)
    logits, head = rows(3, seed).to(dtype), Head(tokens.numpy(), tokens) if part else None
    ours, theirs = laws_there(logits, GREEDY, head), Laws(logits, GREEDY, head)
    assert isinstance(ours, Points)
    for law, expected in zip(ours, theirs, strict=True):
        assert (law.tokens.tolist(), law.mass.tolist()) == (expected.tokens.tolist(), expected.mass.tolist())
    one, other = Randomness(seed), Randomness(seed)
    assert torch.equal(ours.take(one), theirs.take(other))
    drawn, expected = ours.draw(one), theirs.draw(other)
    assert (drawn.tokens.tolist(), list(drawn.mass)) == (expected.tokens.tolist(), list(expected.mass))
    assert one.uniform() == other.uniform()


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 9999))
def test_verdicts_are_the_hosts(method, seed):
    tree = Tree(BINARY) if method in OF_TREES else Tree.path(4)
    logits, near = rows(len(tree) + 1, seed), rows(len(tree), seed + 1)
    near[seed % 3 :] = logits[[parent + 1 for parent in tree.parents]][seed % 3 :]
    drafts, one, other = Points(near), Randomness(seed), Randomness(seed)
    drafted = drafts.draw(one).tokens
    expected = verify(method, Laws(logits, GREEDY), Laws(near, GREEDY), drafts.take(other).tolist(), other, tree)
    parents = tree.parents if method in OF_TREES else None
    found = judge(laws_there(logits, GREEDY), Proposal(drafted, drafts, parents), one, method)
    assert (found.kept, found.tokens.tolist()) == (
        expected.kept,
        [*drafted[expected.kept].tolist(), expected.token],
    )
    assert one.uniform() == other.uniform()


def test_what_is_none_is_refused_where_it_is_looked_at():
    logits = rows(3, 0)
    logits[1, 4] = float("nan")
    laws = Points(logits)
    assert laws.sound.tolist() == [True, False, True]
    laws.draw(Randomness(0))  # a step in between can be fed
    assert laws[0].tokens.tolist() == [int(logits[0].argmax())]
    for refused in (lambda: laws[1], lambda: laws.take(Randomness(0)), lambda: laws[1:][0]):
        with pytest.raises(ValueError, match="logits are infinite or no numbers"):
            refused()


def test_drawing_reads_nothing_and_one_copy_brings_all_laws():
    logits = rows(3, 0)
    with NoHostReads():
        laws = Points(logits)
        laws.draw(Randomness(0))
    whole, laws.tokens = [law.tokens.tolist() for law in laws], None  # what is read is read once
    assert [law.tokens.tolist() for law in laws] == whole


def test_runs_of_them_are_joined_and_picked_where_they_are():
    ours = Points(rows(4, 0))
    for laws in (joined([ours[:1], ours[1:]]), selected(ours, [0, 1, 2, 3])):
        assert isinstance(laws, Points)
        assert torch.equal(laws.tokens, ours.tokens)
