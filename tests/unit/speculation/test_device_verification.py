"""Laws on a device under the rules, there or on the host: the same uniforms, the same outcome; read once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from instruments import NoHostReads

from specpress.engine.tree import Tree
from specpress.laws.device import DeviceLaws
from specpress.laws.law import NO_NUMBERS, Head, Laws, point
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.speculation.device_verification import verify_on_device
from specpress.speculation.drafter import Proposal
from specpress.speculation.rounds import judge
from specpress.speculation.verification import OF_PATHS, OF_TREES, ImpossibleDraftError, verify

V = 40


def rows(count, seed, scale=1.0, vocabulary=V):
    return scale * torch.randn(count, vocabulary, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", ["token", "block"])
@given(
    gamma=st.sampled_from([1, 2, 5]),
    closeness=st.sampled_from([0.0, 0.3, 3.0]),  # of the draft to the target: 0 is the same law
    temperature=st.sampled_from([0.4, 0.85]),
    top_k=st.sampled_from([0, 6]),
    top_p=st.sampled_from([1.0, 0.9, 0.4]),
    part=st.booleans(),  # a draft whose head covers part of the vocabulary
    seed=st.integers(0, 9999),
)
@settings(max_examples=150)
def test_outcomes_are_the_hosts(method, gamma, closeness, temperature, top_k, top_p, part, seed):
    sampling = SamplingParams(temperature, top_k, top_p)
    target = rows(gamma + 1, seed)
    draft = target[:gamma] + closeness * rows(gamma, seed + 1)
    head = None
    if part:
        tokens = torch.arange(0, V, 2)
        draft, head = draft[:, tokens], Head(tokens.numpy(), tokens)
    theirs, ours = Randomness(seed), Randomness(seed)
    drafted = Laws(draft, sampling, head).take(theirs)
    assert torch.equal(DeviceLaws(draft, sampling, head).draw(ours).tokens, drafted)
    expected = verify(method, Laws(target, sampling), Laws(draft, sampling, head), drafted.tolist(), theirs)
    kept, tokens = verify_on_device(
        method, DeviceLaws(target, sampling), DeviceLaws(draft, sampling, head), drafted, ours
    )
    assert (kept, tokens) == (expected.kept, [*drafted[expected.kept].tolist(), expected.token])
    assert ours.uniform() == theirs.uniform()  # as many were used


@pytest.mark.parametrize("method", ["token", "block"])
def test_a_looked_up_proposal_has_laws_on_the_host(method):
    sampling, outcomes = SamplingParams(), set()
    for seed in range(60):
        target = rows(4, seed, scale=2.5)
        drafted = target.argmax(-1)[:3].tolist()
        laws = [point(token) for token in drafted]
        expected = verify(method, Laws(target, sampling), laws, drafted, Randomness(seed))
        found = verify_on_device(method, DeviceLaws(target, sampling), laws, torch.tensor(drafted), Randomness(seed))
        assert found == (expected.kept, [*(drafted[node] for node in expected.kept), expected.token])
        outcomes.add(len(expected.kept))
    assert len(outcomes) > 2


@pytest.mark.parametrize("method", ["token", "block"])
def test_one_copy_comes_back_and_it_is_the_last_thing(method):
    sampling, randomness = SamplingParams(top_p=0.9), Randomness(0)
    target, draft = DeviceLaws(rows(5, 0), sampling), DeviceLaws(rows(4, 1), sampling)
    drafted = draft.draw(randomness).tokens
    with NoHostReads():  # `tolist` of a tensor is no kernel: everything before it is seen
        verify_on_device(method, target, draft, drafted, randomness)


@pytest.mark.parametrize(("where", "row"), [("target", 0), ("draft", 0), ("draft", 1)])
def test_laws_that_are_none_are_refused(where, row):
    broken = {"target": rows(3, 0), "draft": rows(2, 1)}
    broken[where][row, 3] = float("nan")
    target, draft = (DeviceLaws(broken[name], SamplingParams()) for name in ("target", "draft"))
    with pytest.raises(ValueError, match="logits are infinite or no numbers"):
        verify_on_device("token", target, draft, torch.tensor([1, 2]), Randomness(0))


PARENTS = {
    "siblings": [-1, -1, -1],
    "breadth first": [-1, -1, 0, 0, 1, 2, 2],
    "depth first": [-1, 0, 1, 1, 0, -1, 5, 5],
    "a path": [-1, 0, 1],
}


@pytest.mark.parametrize("method", OF_TREES)
@pytest.mark.parametrize("shape", PARENTS)
@given(
    closeness=st.sampled_from([0.0, 0.3, 3.0]),
    temperature=st.sampled_from([0.4, 0.85]),
    top_p=st.sampled_from([1.0, 0.6]),
    points=st.booleans(),
    seed=st.integers(0, 9999),
)
@settings(max_examples=60)
def test_outcomes_of_trees_are_the_hosts(method, shape, closeness, temperature, top_p, points, seed):
    sampling, tree = SamplingParams(temperature, 0, top_p), Tree(PARENTS[shape])
    target = rows(len(tree) + 1, seed, vocabulary=9)
    drafts = Laws(
        target[[parent + 1 for parent in tree.parents]] + closeness * rows(1, seed + 1, vocabulary=9), sampling
    )
    theirs, ours = Randomness(seed), Randomness(seed)
    drafted = drafts.take(Randomness(seed + 1)).tolist()
    laws = [point(token) for token in drafted] if points else list(drafts)
    expected = verify(method, Laws(target, sampling), laws, drafted, theirs, tree)
    proposal = Proposal(torch.tensor(drafted), laws, tree.parents)
    found = judge(DeviceLaws(target, sampling), proposal, ours, method)
    assert found.kept == expected.kept
    assert found.tokens.tolist() == [*(drafted[node] for node in expected.kept), expected.token]
    assert ours.uniform() == theirs.uniform()


def on_both(method, target, draft, drafted, seed, tree):
    """What the host and the device make of logits of the target and laws of the draft: what is kept, or an error."""
    found = []
    for engine in (Laws, DeviceLaws):
        given = engine(target, SamplingParams(temperature=0.8, top_p=0.9)), draft
        try:
            if engine is Laws:
                kept, token = verify(method, *given, drafted, Randomness(seed), tree)
                found.append((kept, [*(drafted[node] for node in kept), token]))
            else:
                parents = None if method in OF_PATHS else tree.parents
                round_ = judge(given[0], Proposal(torch.tensor(drafted), draft, parents), Randomness(seed), method)
                found.append((round_.kept, round_.tokens.tolist()))
        except ValueError as error:
            found.append((type(error), str(error)))
    return found


SHAPED = [*((method, "a path") for method in OF_PATHS), *((method, shape) for method in OF_TREES for shape in PARENTS)]


@pytest.mark.parametrize(("method", "shape"), SHAPED)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_law_of_the_target_that_is_none_is_refused_where_the_host_looks_at_it(method, shape, wrong):
    """Not behind a refused token."""
    tree, outcomes = Tree(PARENTS[shape]), set()
    for seed in range(60):
        target = rows(len(tree) + 1, seed, 2.0, vocabulary=9)
        near = target[[parent + 1 for parent in tree.parents]] + rows(len(tree), seed + 1, vocabulary=9)
        draft = Laws(near, SamplingParams(temperature=0.8))
        drafted = draft.take(Randomness(seed + 1)).tolist()
        target[1 + seed % len(tree), 3] = wrong
        expected, found = on_both(method, target, list(draft), drafted, seed, tree)
        assert found == expected
        outcomes.add(found == (ValueError, NO_NUMBERS))
    assert outcomes == {True, False}


@pytest.mark.parametrize(("method", "shape"), SHAPED)
def test_a_token_that_its_law_cannot_have_drawn_is_refused_where_the_host_asks_for_it(method, shape):
    tree, outcomes = Tree(PARENTS[shape]), set()
    for seed in range(60):
        target = rows(len(tree) + 1, seed, 2.0, vocabulary=9)
        near = target[[parent + 1 for parent in tree.parents]] + rows(len(tree), seed + 1, vocabulary=9)
        draft = Laws(near, SamplingParams(temperature=0.8, top_k=4))
        drafted, wrong = draft.take(Randomness(seed + 1)).tolist(), seed % len(tree)
        drafted[wrong] = int(near[wrong].argmin())
        expected, found = on_both(method, target, list(draft), drafted, seed, tree)
        assert found == expected
        outcomes.add(found[0] is ImpossibleDraftError)
    assert True in outcomes
