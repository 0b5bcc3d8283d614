"""Trees through the whole engine: the text stays the target's, whatever shape, cache and verification."""

import pytest
import tiny
import torch
from tree_drafters import BINARY, Branching

from specpress import SamplingParams, generate
from specpress.decoding.generate import prepare
from specpress.drafters import Cascade, Drafter, DraftModel, Proposal
from specpress.engine import cache, ragged_cache
from specpress.engine.attention import decode_attention
from specpress.laws.law import point
from specpress.presses import get_press
from specpress.schedules import Constant
from specpress.speculation.verification import OF_TREES
from specpress.theory.parts import VERIFICATION

GREEDY = SamplingParams(temperature=0)
PRESSES = {
    "dense": {},
    "after the prompt": {"press": ("knorm", {"compression_ratio": 0.5})},
    "while decoding": {"press": ("tova", {"compression_ratio": 0.4}), "cache_budget": 12, "compression_interval": 5},
    "rotated": {"press": ("key_rerotation", {"press": "knorm", "compression_ratio": 0.5})},
}


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def models(request):
    """A target and a draft that agree often: the draft is the target with its weights nudged."""
    target, draft = (tiny.FAMILIES[request.param](2, seed=1) for _ in range(2))
    torch.manual_seed(0)
    for parameter in draft.parameters():
        parameter.data += 0.05 * parameter.data.std() * torch.randn_like(parameter)
    return target, draft


def options(name):
    found = dict(PRESSES[name])
    if "press" in found:
        found["press"] = get_press(found["press"][0], **found["press"][1])
    return found


class Oracle(Drafter):
    """Trees around a known text: at each depth the right token second, wrong ones beside it."""

    branches = True

    def __init__(self, text, depth=3):
        self.text, self.depth = text, depth

    def propose(self, context, gamma, stop):
        """Two children a level; the second goes on."""
        tokens, parents, parent = [], [], -1
        for token in self.text[len(context) :][: min(self.depth, gamma // 2)]:
            tokens += [(token + 1) % tiny.VOCABULARY, token]
            parents += [parent, parent]
            parent = len(tokens) - 1
        return Proposal(torch.tensor(tokens, dtype=torch.long), [point(token) for token in tokens], parents)


@pytest.mark.parametrize("verification", OF_TREES)
@pytest.mark.parametrize("kind", PRESSES)
def test_greedy_texts_are_those_without_a_drafter(models, kind, verification):
    target, draft = models
    prompt = tiny.distinct(24, tiny.VOCABULARY, seed=2)
    settings = {"max_new_tokens": 21, "sampling": GREEDY}
    alone = generate(target, prompt, **settings, **options(kind)).tokens
    text = [*prompt[0].tolist(), *alone[0].tolist()]
    for drafter in (Branching(draft), Branching(draft, (-1, 0, -1, 2, 2, 4)), Oracle(text)):
        found = generate(
            target,
            prompt,
            drafter=drafter,
            verification=verification,
            schedule=Constant(6),
            **settings,
            **options(kind),
        )
        assert torch.equal(found.tokens, alone)
    if kind != "while decoding":
        assert max(i.accepted for i in found.trace.iterations) == 3
        assert {i.rejections for i in found.trace.iterations if i.accepted == 3} == {0}


def test_a_path_that_is_not_brought_to_its_place_is_seen(monkeypatch):
    """Negative control: the cache keeps what lies first."""
    target = tiny.llama(2, seed=1)
    prompt, settings = tiny.prompt(12), {"max_new_tokens": 20, "sampling": GREEDY}
    alone = generate(target, prompt, **settings).tokens
    monkeypatch.setattr(cache, "bring_forward", lambda buffers, kept: None)
    drafter = Oracle([*prompt[0].tolist(), *alone[0].tolist()])
    found = generate(target, prompt, drafter=drafter, verification="traversal", schedule=Constant(6), **settings)
    assert not torch.equal(found.tokens, alone)


def test_the_trace_counts_nodes_and_the_path(models):
    target, _ = models
    prompt = tiny.prompt(12)
    text = [*prompt[0].tolist(), *generate(target, prompt, max_new_tokens=12, sampling=GREEDY).tokens[0].tolist()]
    settings = {"sampling": GREEDY, "schedule": Constant(6), "verification": "traversal"}
    decoding = prepare(target, prompt, max_new_tokens=12, drafter=Oracle(text), **settings)
    with decode_attention(target):
        parts = list(decoding.parts())
    iterations = decoding.trace.iterations
    assert [(i.gamma, i.proposed, i.accepted, i.committed) for i in iterations] == [
        (6, 6, 3, 4),
        (6, 6, 3, 4),
        (6, 4, 2, 3),  # the tree is cut where the limit leaves no room
    ]
    assert [part.size for part in parts if part.name == VERIFICATION] == [7, 7, 5]
    assert decoding.trace.tested() == (8, 8)
    assert decoding.generation().metrics()["acceptance_rate"] == 8 / 16


@pytest.mark.parametrize("verification", OF_TREES)
@pytest.mark.parametrize("top_k", [0, 5])
def test_a_low_temperature_leaves_less_than_the_children_asked_for(models, verification, top_k):
    target, draft = models
    settings = {"max_new_tokens": 20, "sampling": SamplingParams(temperature=1e-6, top_k=top_k)}
    drafter = DraftModel(draft, children=3)
    found = generate(target, tiny.prompt(12), drafter=drafter, verification=verification, **settings)
    assert torch.equal(found.tokens, generate(target, tiny.prompt(12), **settings).tokens)


@pytest.mark.parametrize("verification", ["token", "block"])
def test_a_tree_needs_a_verification_of_trees(models, verification):
    target, draft = models
    with pytest.raises(ValueError, match="proposes trees; use 'traversal' or 'recursive'"):
        generate(target, tiny.prompt(8), max_new_tokens=4, drafter=Branching(draft), verification=verification)


def test_each_token_has_a_parent():
    with pytest.raises(ValueError, match="a proposal of 2 tokens needs a parent for each, got 1"):
        Proposal(torch.tensor([1, 2]), [point(1), point(2)], [-1]).up_to(4)


def test_a_tree_is_arranged_depth_first_and_cut():
    proposal = Proposal(torch.tensor([1, 2, 3, 4, 5]), [point(i) for i in range(1, 6)], [-1, -1, 0, 2, 1])
    found = proposal.up_to(2)
    assert found.tokens.tolist() == [1, 3, 2, 5]
    assert found.parents == [-1, 0, -1, 2]
    assert [int(law.tokens[0]) for law in found.laws] == [1, 3, 2, 5]


class Silent(Oracle):
    """A drafter that does not say that it branches."""

    branches = False


def test_a_tree_that_was_not_announced_is_refused_before_it_is_fed(models):
    target, _ = models
    decoding = prepare(target, tiny.prompt(8), max_new_tokens=9, drafter=Silent([5] * 20))
    with decode_attention(target), pytest.raises(ValueError, match="proposes trees; use 'traversal' or 'recursive'"):
        list(decoding.parts())
    assert decoding.target.length == 8


def test_a_row_of_a_batch_draws_as_it_would_alone(models):
    """The same uniforms, the same trees and the same laws: a padded row is a batch of one."""
    target, draft = models
    prompt, sampling = tiny.prompt(14), SamplingParams(temperature=0.9, seed=3)
    settings = {"max_new_tokens": 20, "sampling": sampling, "verification": "traversal", "schedule": Constant(5)}
    alone = generate(target, prompt, drafter=Branching(draft), **settings)
    padded, mask = torch.nn.functional.pad(prompt, (2, 0)), torch.nn.functional.pad(torch.ones_like(prompt), (2, 0))
    found = generate(target, padded, drafter=Branching(draft), attention_mask=mask, **settings)
    assert torch.equal(found.tokens, alone.tokens)
    columns = [(i.proposed, i.accepted) for i in alone.trace.iterations]
    assert [(i.proposed, i.accepted) for i in found.trace.iterations] == columns
    assert any(accepted for _, accepted in columns)


def test_a_path_of_a_row_that_is_not_brought_to_its_place_is_seen(monkeypatch):
    """Negative control: the cache of a batch keeps what lies first in its row."""
    target = tiny.llama(2, seed=1)
    prompt, settings = tiny.prompt(12), {"max_new_tokens": 20, "sampling": GREEDY}
    alone = generate(target, prompt, **settings).tokens
    monkeypatch.setattr(ragged_cache, "bring_forward", lambda buffers, kept: None)
    drafter = Oracle([*prompt[0].tolist(), *alone[0].tolist()])
    settings |= {"verification": "traversal", "schedule": Constant(6)}
    found = generate(target, prompt.repeat(2, 1), drafter=drafter, **settings).tokens
    assert not torch.equal(found, alone.repeat(2, 1))


@pytest.mark.parametrize("verification", ["token", "traversal"])
def test_a_cascade_takes_a_tree_inside(models, verification):
    target, draft = models
    middle, settings = tiny.llama(1, seed=5), {"max_new_tokens": 20, "sampling": GREEDY}
    alone = generate(target, tiny.prompt(10), **settings).tokens
    drafter = Cascade(middle, Branching(draft, BINARY), gamma=5, rounds=2)
    found = generate(target, tiny.prompt(10), drafter=drafter, verification=verification, **settings)
    assert torch.equal(found.tokens, alone)


def test_the_end_of_text_ends_a_tree(models):
    target, _ = models
    prompt = tiny.prompt(12)
    alone = generate(target, prompt, max_new_tokens=12, sampling=GREEDY).tokens[0].tolist()
    end = alone[5]
    found = (
        generate(
            target,
            prompt,
            max_new_tokens=12,
            sampling=GREEDY,
            drafter=Oracle([*prompt[0].tolist(), *alone]),
            schedule=Constant(8),
            verification="traversal",
            eos_token_id=end,
        )
        .tokens[0]
        .tolist()
    )
    assert found == alone[: alone.index(end) + 1]
