"""The drafters of trees through the whole engine: the text stays the target's, whatever they know and propose."""

from functools import partial

import pytest
import tiny
import torch

from specpress import SamplingParams, generate
from specpress.decoding.generate import prepare
from specpress.drafters import (
    Cascade,
    CompressedTarget,
    Drafter,
    DraftModel,
    Mixture,
    PromptLookup,
    Successors,
    SuffixAutomaton,
    SuffixLookup,
    TokenRecycling,
)
from specpress.presses import get_press
from specpress.schedules import Confidence, Constant, Optimal, OptimalTree, Schedule
from specpress.study.registry import BRANCHING, DRAFTERS, SEEING_CACHE, resolve

GREEDY = SamplingParams(temperature=0)
KNORM = get_press("knorm", compression_ratio=0.5)
PRESSES = {
    "dense": {},
    "after the prompt": {"press": KNORM},
    "while decoding": {"press": KNORM, "cache_budget": 14, "compression_interval": 5},
}


def nudged(make):
    """The target with its weights moved a little, so that they often agree."""
    draft = make(2, seed=1)
    torch.manual_seed(0)
    for parameter in draft.parameters():
        parameter.data += 0.05 * parameter.data.std() * torch.randn_like(parameter)
    return draft


def drafters(make):
    """A fresh drafter of each kind; `make` is of a family."""
    draft = nudged(make)
    known = Successors(tiny.VOCABULARY, 4)
    known.learn(torch.arange(tiny.VOCABULARY), torch.randn(tiny.VOCABULARY, tiny.VOCABULARY))
    return {
        "token_recycling": TokenRecycling(nodes=6),
        "token_recycling, warm": TokenRecycling(k=4, nodes=6, warm=known, shape="fixed"),
        "suffix_lookup": SuffixLookup(nodes=6, corpus=SuffixAutomaton(range(2, 40))),
        "draft model, children": DraftModel(draft, children=2),
        "draft model, likely children": DraftModel(draft, children=3, likely=True, press=KNORM),
        "mixture": Mixture([SuffixLookup(), TokenRecycling()]),
        "mixture of all": Mixture(
            [DraftModel(draft), PromptLookup(), SuffixLookup(), TokenRecycling(), DraftModel(draft, children=2)],
            nodes=14,
            gamma=3,
        ),
        "mixture with a copy of the cache": Mixture([CompressedTarget(KNORM), TokenRecycling()], gamma=2),
        "cascade": Cascade(draft, Mixture([SuffixLookup(), TokenRecycling()]), gamma=6),
    }


KINDS = list(drafters(tiny.llama))


def test_every_drafter_of_trees_is_tried():
    assert set(BRANCHING) <= set(KINDS)


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request):
    make = tiny.FAMILIES[request.param]
    return make, make(2, seed=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("press", PRESSES)
def test_greedy_texts_are_those_without_a_drafter(family, kind, press):
    make, target = family
    prompt = tiny.distinct(24, tiny.VOCABULARY, seed=2)
    settings = {"max_new_tokens": 24, "sampling": GREEDY, **PRESSES[press]}
    alone = generate(target, prompt, **settings).tokens
    found = generate(
        target, prompt, drafter=drafters(make)[kind], verification="traversal", schedule=Constant(12), **settings
    )
    assert torch.equal(found.tokens, alone)
    assert max(i.accepted for i in found.trace.iterations) > 0


@pytest.mark.parametrize("schedule", [OptimalTree(cap=10), Confidence(0.3, cap=10)], ids=["optimal tree", "confidence"])
def test_a_schedule_sizes_the_tree(family, schedule):
    _, target = family
    prompt, settings = tiny.prompt(20), {"max_new_tokens": 60, "sampling": GREEDY}
    drafter = Mixture([SuffixLookup(), TokenRecycling()])
    found = generate(target, prompt, drafter=drafter, schedule=schedule, verification="recursive", **settings)
    assert torch.equal(found.tokens, generate(target, prompt, **settings).tokens)
    sizes = {i.proposed for i in found.trace.iterations}
    assert len(sizes) > 2
    assert max(sizes) <= 10


def test_recycled_are_the_targets_own_logits(family):
    _, target = family
    prompt, drafter = tiny.prompt(20), TokenRecycling(k=3)
    generate(target, prompt, max_new_tokens=1, sampling=GREEDY, drafter=drafter, verification="traversal")
    with torch.inference_mode():
        laws = torch.softmax(target(prompt, use_cache=False).logits[0], -1)
    last = {token: law.topk(3) for token, law in zip(prompt[0].tolist(), laws, strict=True)}
    for token, best in last.items():
        assert [t for t, _ in drafter.successors.after(token)] == best.indices.tolist()
        assert [mass for _, mass in drafter.successors.after(token)] == pytest.approx(best.values.tolist(), rel=1e-3)


def test_what_was_refused_is_learned_too(family):
    """After a first round in which nothing was kept, the rows of its nodes are known."""
    _, target = family
    for length in range(8, 40):  # a prompt that does not tell beforehand what follows its first new token
        prompt = tiny.prompt(length)
        first, second = generate(target, prompt, max_new_tokens=2, sampling=GREEDY).tokens[0].tolist()
        if first not in prompt[0].tolist():
            break
    wrong = next(token for token in range(2, tiny.VOCABULARY) if token not in [first, second, *prompt[0].tolist()])
    known = Successors(tiny.VOCABULARY, 1)
    known.tokens[:], known.mass[:] = wrong, 1
    drafter = TokenRecycling(k=1, nodes=1, warm=known)
    generate(target, prompt, max_new_tokens=3, sampling=GREEDY, drafter=drafter, verification="traversal")
    assert drafter.successors.after(first)[0][0] == second
    assert drafter.successors.after(wrong) != known.after(wrong)


OF_A_CACHE = "mixture with a copy of the cache"


BATCHES = [
    *((name, "mixture", press) for name in tiny.FAMILIES for press in ("dense", "while decoding")),
    *(("llama", kind, "dense") for kind in KINDS if kind not in ("mixture", OF_A_CACHE)),
    ("llama", "token_recycling", "after the prompt"),
    ("windowed", "mixture", "dense"),
]
MAKERS = {**tiny.FAMILIES, "windowed": partial(tiny.mistral, sliding_window=24)}


@pytest.mark.parametrize(("name", "kind", "press"), BATCHES)
def test_a_batch_is_its_rows_alone(name, kind, press):
    """The text of each row, and of each round the tree and what was kept of it; prompts differ in length."""
    make = MAKERS[name]
    target = make(2, seed=1)
    rows = [tiny.distinct(length, tiny.VOCABULARY, seed=length)[0] for length in (24, 17, 21)]
    padded = torch.stack([torch.nn.functional.pad(row, (24 - len(row), 0)) for row in rows])
    mask = torch.stack([torch.arange(24) >= 24 - len(row) for row in rows]).long()
    settings = {"max_new_tokens": 16, "sampling": GREEDY, **PRESSES[press]}
    settings |= {"schedule": Constant(12), "verification": "traversal"}
    decoding = prepare(target, padded, attention_mask=mask, drafter=drafters(make)[kind], **settings)
    together = decoding.run().tokens
    for r, row in enumerate(rows):
        alone = generate(target, row[None], drafter=drafters(make)[kind], **settings)
        assert torch.equal(together[r], alone.tokens[0])
        if press == "dense":
            traces = decoding.generations()[r].trace, alone.trace
            counts = [[(i.gamma, i.proposed, i.accepted, i.committed) for i in t.iterations] for t in traces]
            assert counts[0] == counts[1]


class Three(Schedule):
    """Stops a tree at the third node that it is told of."""

    of_trees = True

    def __init__(self):
        super().__init__(8)
        self.told = 0

    def stop(self, probability):
        self.told += 1
        return self.told == 3

    def learn(self, iteration):
        self.told = 0


def test_each_row_tells_its_own_schedule_of_its_nodes(family):
    make, target = family
    settings = {"max_new_tokens": 20, "sampling": GREEDY, "verification": "traversal"}
    prompts, kind = tiny.prompt(20, batch=3), "token_recycling, warm"
    decoding = prepare(target, prompts, drafter=drafters(make)[kind], schedule=Three(), **settings)
    together = decoding.run().tokens
    for r, prompt in enumerate(prompts):
        alone = generate(target, prompt[None], drafter=drafters(make)[kind], schedule=Three(), **settings)
        assert torch.equal(together[r], alone.tokens[0])
        counts = [[i.proposed for i in trace.iterations] for trace in (decoding.row_traces[r], alone.trace)]
        assert counts[0] == counts[1]
        assert max(counts[0]) == 3


class Told(Schedule):
    """Notes what a round told `stop`, and how many nodes it proposed."""

    of_trees = True

    def __init__(self):
        super().__init__(6)
        self.told, self.rounds = [], []

    def stop(self, probability):
        self.told.append(probability)
        return False

    def learn(self, iteration):
        self.rounds.append((self.told, iteration.proposed))
        self.told = []


@pytest.mark.parametrize("kind", ["token_recycling", "token_recycling, warm", "draft model, children"])
def test_a_schedule_is_told_of_every_node_how_likely_it_is_reached(family, kind):
    make, target = family
    settings = {"max_new_tokens": 30, "sampling": GREEDY, "verification": "traversal"}
    schedule = Told()
    generate(target, tiny.prompt(20), drafter=drafters(make)[kind], schedule=schedule, **settings)
    rounds = schedule.rounds[:-3]  # towards the end nodes are cut that no text has room for
    assert [len(told) for told, _ in rounds] == [proposed for _, proposed in rounds]
    assert max(proposed for _, proposed in rounds) > 2
    sums = [sum(told[:2]) for told, _ in rounds if kind == "draft model, children"]
    assert all(total <= 1 + 1e-6 for total in sums)  # the first two are siblings
    assert all(told[-1] <= told[0] + 1e-6 for told, _ in rounds if told)  # deeper ones are reached through the first


def test_who_looks_at_the_targets_cache_is_known_by_name():
    classes = {name: resolve(DRAFTERS, name, "drafter") for name in DRAFTERS if name != "mixture"}
    assert {name for name, cls in classes.items() if cls.prefilled is not Drafter.prefilled} == set(SEEING_CACHE)


def test_a_batch_has_no_tree_of_who_reads_the_targets_cache(family):
    make, target = family
    prompts, drafter = tiny.prompt(8, batch=2), drafters(make)[OF_A_CACHE]
    with pytest.raises(ValueError, match="one sequence at a time, got a batch of 2"):
        generate(target, prompts, max_new_tokens=4, drafter=drafter, verification="traversal")


def test_a_schedule_of_trees_takes_no_path(family):
    _, target = family
    with pytest.raises(ValueError, match="OptimalTree sizes trees, and PromptLookup proposes paths: use Optimal"):
        generate(target, tiny.prompt(8), max_new_tokens=4, drafter=PromptLookup(), schedule=OptimalTree())


def test_a_schedule_that_counts_on_paths_takes_no_tree(family):
    _, target = family
    settings = {"drafter": SuffixLookup(), "schedule": Optimal(), "verification": "traversal"}
    with pytest.raises(ValueError, match="Optimal counts on paths, and SuffixLookup proposes trees: use OptimalTree"):
        generate(target, tiny.prompt(8), max_new_tokens=4, **settings)


def test_a_drafter_says_how_many_nodes_where_no_schedule_does(family):
    _, target = family
    for drafter, nodes in ((TokenRecycling(nodes=9), 9), (PromptLookup(), 4)):
        found = generate(target, tiny.prompt(8), max_new_tokens=9, drafter=drafter, verification="traversal")
        assert found.trace.iterations[0].gamma == min(nodes, 9)


def test_successors_of_another_vocabulary_are_refused(family):
    _, target = family
    drafter = TokenRecycling(k=2, warm=Successors(7, 2))
    with pytest.raises(ValueError, match=f"successors of 7 tokens, the target has {tiny.VOCABULARY}"):
        generate(target, tiny.prompt(8), max_new_tokens=4, drafter=drafter, verification="traversal")
