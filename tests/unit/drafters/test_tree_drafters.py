"""What drafters of trees propose, without a loop around them."""

import numpy as np
import pytest
import tiny
import torch

from specpress import SamplingParams
from specpress.drafters import CompressedTarget, Drafter, DraftModel, Mixture, Proposal, SuffixAutomaton, SuffixLookup
from specpress.drafters.branching import without
from specpress.engine.attention import decode_attention
from specpress.laws.law import Law, law_of
from specpress.laws.sampling import Randomness
from specpress.presses import get_press
from specpress.schedules.base import never

SAMPLED = SamplingParams(temperature=1.0)


def paths(proposal):
    """The tokens on the way to each node."""
    found = []
    parents = range(-1, len(proposal.tokens) - 1) if proposal.parents is None else proposal.parents
    for token, parent in zip(proposal.tokens.tolist(), parents, strict=True):
        found.append(((*found[parent],) if parent >= 0 else ()) + (token,))
    return found


def suffixes(text, nodes=8, **options):
    drafter = SuffixLookup(nodes, **options)
    drafter.start(None, SAMPLED, Randomness(0), 99)
    context = torch.tensor(text)
    drafter.read(context[:3])
    return drafter, paths(drafter.propose(context, nodes, never))


def test_the_longest_suffix_comes_first_and_counts_decide():
    _, found = suffixes([1, 2, 3, 9, 1, 2, 4, 9, 2, 3, 9, 1, 2])
    assert found[:3] == [(4,), (4, 9), (4, 9, 2)]  # after "9 1 2" came 4; after "1 2" 3 as well
    assert (3,) in found


def test_nothing_that_recurs_is_nothing():
    assert suffixes([1, 2, 3, 4])[1] == []


def test_a_corpus_is_known_before_the_prompt():
    corpus = SuffixAutomaton([7, 8, 9, -1, 7, 8, 5])
    _, found = suffixes([1, 2, 3, 7, 8], corpus=corpus)
    assert set(found[:2]) == {(9,), (5,)}
    assert all(token >= 0 for path in found for token in path)


def test_what_did_not_stand_is_no_context():
    text = [1, 2, 3, 4, 1, 2]
    drafter, _ = suffixes([*text, 5, 6, 5])  # of which a cascade keeps `text` alone
    drafter.rollback(len(text))
    proposed = paths(drafter.propose(torch.tensor(text), 2, never))
    assert proposed[0] == (3,)
    drafter.rollback(len(text))
    assert paths(drafter.propose(torch.tensor([*text, 3]), 1, never)) == [(4,)]


def branched(likely, sampling=SAMPLED, gamma=5, stop=never, children=2):
    model = tiny.llama(1, seed=3, vocabulary=9)
    drafter = DraftModel(model, children=children, likely=likely)
    drafter.start(model, sampling, Randomness(1), 99)
    context = torch.tensor([1, 2, 3])
    with decode_attention(model):
        proposal = drafter.propose(context, gamma, stop)
    return model, context, proposal


@pytest.mark.parametrize("likely", [False, True])
def test_children_stand_beside_a_main_line(likely):
    model, context, proposal = branched(likely)
    assert list(proposal.parents) == [-1, -1, 0, 0, 2]
    found = paths(proposal)
    assert len(set(found)) == 5
    for node, (path, law) in enumerate(zip(found, proposal.laws, strict=True)):
        with torch.inference_mode():
            logits = model(torch.tensor([[*context, *path[:-1]]]), use_cache=False).logits[0, -1]
        earlier = [f[-1] for f, p in zip(found[:node], proposal.parents, strict=False) if p == proposal.parents[node]]
        if likely:
            assert law.tokens.tolist() == [path[-1]] == [logits.topk(2).indices[len(earlier)].item()]
        else:
            expected = law_of(logits, SAMPLED).dense(9)
            expected[earlier] = 0
            assert law.dense(9) == pytest.approx(expected / expected.sum(), abs=1e-5)


def test_greedy_drafts_have_the_most_likely_children():
    _, _, greedy = branched(False, SamplingParams(temperature=0))
    assert paths(greedy) == paths(branched(True)[2])


def test_no_more_children_than_the_law_has_tokens():
    _, _, proposal = branched(False, SamplingParams(top_k=2), children=4, gamma=6)
    assert list(proposal.parents) == [-1, -1, 0, 0, 2, 2]


@pytest.mark.parametrize("top_k", [0, 5])
def test_no_more_children_than_tokens_that_have_mass(top_k):
    """At so low a temperature that of all but one is no number any more, though the law lists them."""
    _, _, proposal = branched(False, SamplingParams(temperature=1e-6, top_k=top_k), children=3, gamma=4)
    assert list(proposal.parents) == [-1, 0, 1, 2]
    for law, token in zip(proposal.laws, proposal.tokens.tolist(), strict=True):
        assert law.probability(token) == 1


@pytest.mark.parametrize("children", [1, 3])
def test_a_main_line_ends_where_the_text_does(children):
    """Though fewer children than asked for leave nodes for more of it."""
    model = tiny.llama(1, seed=3, vocabulary=9)
    drafter = DraftModel(model, children=children, likely=children == 1)
    drafter.start(model, SamplingParams(top_k=1), Randomness(1), 5)
    with decode_attention(model):
        assert list(drafter.propose(torch.tensor([1, 2, 3]), 9, never).parents) == [-1, 0]


def test_stops_after_the_children_of_the_token_it_was_told():
    told = []
    _, _, proposal = branched(True, stop=lambda probability: told.append(probability) or len(told) == 3, gamma=9)
    assert list(proposal.parents) == [-1, -1, 0, 0]


def test_without_renormalises():
    law = without(Law(np.array([3, 5, 6]), np.array([0.5, 0.3, 0.2])), 5)
    assert law.tokens.tolist() == [3, 6]
    assert law.mass == pytest.approx([5 / 7, 2 / 7])


class Fixed(Drafter):
    def __init__(self, tokens):
        self.tokens, self.asked, self.rolled = tokens, [], []

    def propose(self, context, gamma, stop):
        self.asked.append(gamma)
        law = Law(np.array([1, 2, 3]), np.ones(3) / 3)
        tokens = self.tokens[:gamma]
        for _ in tokens:
            if stop(0.5):
                break
        return Proposal(torch.tensor(tokens), [law] * len(tokens))

    def rollback(self, length):
        self.rolled.append(length)


def test_a_mixture_grows_what_the_models_leave():
    drawing = Fixed([1, 2])
    mixture = Mixture([SuffixLookup(), drawing], nodes=5, gamma=2)
    mixture.start(None, SAMPLED, Randomness(0), 99)
    context = torch.tensor([5, 1, 6, 7, 5, 1, 8, 7, 5])
    proposal = mixture.propose(context, 9, never)
    assert paths(proposal) == [(1,), (1, 2), (1, 8), (1, 8, 7)]  # the grown 1 is the drawn one
    assert [len(law.tokens) for law in proposal.laws] == [3, 3, 1, 1]
    assert drawing.asked == [2]
    mixture.rollback(4)
    assert drawing.rolled == [4]


def test_a_stop_is_told_what_is_reached():
    told = []
    mixture = Mixture([Fixed([1, 2, 3])])
    mixture.start(None, SAMPLED, Randomness(0), 99)
    mixture.propose(torch.tensor([1]), 3, lambda probability: bool(told.append(probability)))
    assert told == [0.5, 0.25, 0.125]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixture([]), "needs a drafter at least"),
        (lambda: Mixture([Mixture([SuffixLookup()])]), "takes no mixtures"),
        (
            lambda: Mixture([CompressedTarget(get_press("knorm", compression_ratio=0.5))] * 2),
            "one drafter that compresses",
        ),
        (lambda: Mixture([SuffixLookup()], gamma=0), "gamma must be at least 1"),
        (lambda: SuffixLookup(0), "nodes must be at least 1"),
        (lambda: SuffixLookup(shape="round"), "unknown shape 'round'; known: best, fixed, path"),
        (lambda: DraftModel(None, children=0), "children must be at least 1"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
