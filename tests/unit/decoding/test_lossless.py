"""Sampled output through the whole engine follows the target's law, whatever drafts, schedules or verifies.

The oracle is one plain forward of transformers over a generated text (eager attention, no cache). Under its law each
token becomes a uniform number (the randomised probability integral transform), given everything before it: so the
numbers of the gamma + 1 tokens from the start of a round on are independent and uniform, and chi-square tests their
joint law in 4^(gamma + 1) cells. Windows do not overlap, and begin where rounds begin, so no asymptotics of dependent
data are needed, and tests of different models pool exactly. The transform goes through the vocabulary in two orders: by
token, which shows tokens that are too rare, and by Q / P, the draft's law over the target's, which shows drafts let
through too often. What needs no statistics is compared outright: in every round, the laws that the engine judges by are
those of the plain forward.

`make test` draws at least 14,400 rounds, spread over every drafter x schedule x verification x architecture, and tests
all of them together, and each drafter, schedule, verification and architecture: 1,600 rounds of a drafter. `make
test-slow` looks at every single combination on its own: at 800 rounds, and where these are not usual for the law
(p < 1/4) at twice as many, up to 20,000. It then tests the first rounds of all combinations of a drafter and a
verification together, at least 28,800, and those of each architecture and each schedule, 4,800 or more.

The false-alarm rate is 1e-9 a test. What is caught: each negative control must be, on its own, by the same looks, and
is within 1,700 rounds (nine of nine: three controls with three seeds each). One that is wrong in a third of the rounds
only, which takes nine times as many to tell, is so in six of nine, and by the product it must be.
"""

import random
from itertools import cycle, product
from typing import NamedTuple
from unittest import mock

import pytest
import tiny
import torch
from scipy.stats import chi2, chisquare
from tree_drafters import BINARY, Branching

import specpress.speculation.verification as verification_module
from specpress import SamplingParams, generate
from specpress.decoding import loop
from specpress.drafters import (
    Cascade,
    CompressedTarget,
    Drafter,
    DraftModel,
    FeatureHead,
    Mixture,
    PromptLookup,
    Proposal,
    QuantizedTarget,
    SuffixLookup,
    TokenRecycling,
)
from specpress.drafters.prompt_lookup import lookup
from specpress.laws.sampling import probabilities
from specpress.presses import get_press
from specpress.schedules import AIMD, Confidence, Constant, Heuristic, Optimal, PlusMinusOne
from specpress.speculation.rounds import speculate
from specpress.speculation.verification import OF_PATHS as METHODS
from specpress.speculation.verification import OF_TREES

VOCABULARY = 8
GAMMA = 3  # the most any schedule below drafts
BINS = 4
NEW_TOKENS = (24, 220)  # of a generation, at least and at most
SPREAD = 14_400  # rounds of all combinations together in `make test`
LOOKS = (800, 800, 1_600, 3_200, 6_400, 7_200)  # rounds of one, as long as what was drawn before is unusual
USUAL, FALSE_ALARM = 1 / 4, 1e-9
SAMPLING = {"temperature": 1.3, "top_p": 0.97}


class Capped(Heuristic):
    """The heuristic schedule has no cap of its own; the windows need one."""

    def update(self, iteration):
        super().update(iteration)
        self.gamma = min(self.gamma, GAMMA)


SCHEDULES = {
    "constant": lambda: Constant(GAMMA),
    "aimd": lambda: AIMD(1, floor=1, cap=GAMMA),
    "plus minus one": lambda: PlusMinusOne(2, floor=1, cap=GAMMA),
    "heuristic": lambda: Capped(initial=GAMMA),
    "confidence": lambda: Confidence(0.5, cap=GAMMA),
    "optimal": lambda: Optimal(cap=GAMMA),
}


def model(family, seed, layers=1):
    return tiny.EVERY[family](layers, vocabulary=VOCABULARY, seed=seed)


def drafters(family):
    """For each kind, a maker of fresh drafters, and the law Q they draft from, as a function of a text (1, n)."""
    small, middle, part = model(family, 4), model(family, 5), tiny.with_subset_head(model(family, 6), VOCABULARY - 2)
    press, head = get_press("knorm", compression_ratio=0.5), tiny.feature_head(model(family, 3), (1,), seed=7)
    return {
        "none": (lambda: None, None),
        "draft model": (lambda: DraftModel(small), law_of(small)),
        "subset head": (lambda: DraftModel(part), law_of(part)),
        "prompt lookup": (lambda: PromptLookup(max_ngram=2), law_of_lookup),
        "compressed target": (lambda: CompressedTarget(press), None),
        "feature head": (lambda: FeatureHead(head), None),
        "quantized target": (lambda: QuantizedTarget(4, 64, symmetric=True), None),
        "cascade of a draft model": (
            lambda: Cascade(middle, DraftModel(small), gamma=2, rounds=2),
            law_of(middle),
        ),
        "cascade of prompt lookup": (
            lambda: Cascade(middle, PromptLookup(max_ngram=2), gamma=2, rounds=2),
            law_of(middle),
        ),
    }


def trees(family):
    """The same for trees: shapes as deep as gamma at most, and those of our own drafters."""
    small = model(family, 4)
    shapes = {
        "without replacement": lambda: Branching(small, BINARY),
        "with replacement": lambda: Branching(small, BINARY, replacement=True),
        "most likely, then drawn": lambda: Branching(small, (-1, 0, 1, 0, -1), top=1),
    }
    own = {
        "children of a draft": lambda: DraftModel(small, children=2),
        "likely children of a draft": lambda: DraftModel(small, children=2, likely=True),
        "token recycling": lambda: TokenRecycling(k=4),
        "suffix lookup": SuffixLookup,
        "mixture": lambda: Mixture([DraftModel(small), SuffixLookup(), TokenRecycling(k=4)], gamma=2),
        "mixture of drawn trees": lambda: Mixture([PromptLookup(), DraftModel(small, children=2)], gamma=4),
    }
    return {name: (make, law_of(small)) for name, make in (shapes | own).items()}


def heads(family):
    """Cascades of a feature head, which reads what the intermediate model computes; by their rounds."""
    middle = model(family, 5)
    head = tiny.feature_head(middle, (1,), seed=7)
    return {
        f"cascade of a feature head, {rounds} at most": (
            lambda rounds=rounds: Cascade(middle, FeatureHead(head), gamma=2, rounds=rounds),
            law_of(middle),
        )
        for rounds in (1, 2)
    }


def law_of(model):
    """Laws after every token of a text, (n, vocabulary), from one plain forward."""

    def laws(text):
        model.set_attn_implementation("eager")
        with torch.inference_mode():
            logits = model(text, use_cache=False).logits[0]
        law = probabilities(logits, SamplingParams(**SAMPLING)).double()
        return torch.nn.functional.pad(law, (0, VOCABULARY - law.shape[1]))

    return laws


def law_of_lookup(text):
    """The one-hot laws of prompt lookup; zero where it finds nothing."""
    laws = torch.zeros(text.shape[1], VOCABULARY, dtype=torch.float64)
    for n in range(text.shape[1]):
        laws[n, lookup(text[0, : n + 1], 2, 1)] = 1
    return laws


TARGETS = {family: model(family, 3) for family in tiny.EVERY}
DRAFTERS = {family: drafters(family) for family in tiny.EVERY}
KINDS = list(DRAFTERS["llama"])
TREES = {family: trees(family) for family in tiny.EVERY}
HEADS = {family: heads(family) for family in tiny.FAMILIES}
SCHEDULES_OF_TREES = {"all nodes": lambda: Constant(5)}


class Sample(NamedTuple):
    """Windows of uniforms, (windows, orders = 2, gamma + 1), from `rounds` rounds of the engine."""

    windows: torch.Tensor
    rounds: int


def draw_sample(family, kind, schedule, verification, rounds, first_seed=0, wrap=lambda drafter: drafter):
    """Generate until there are `rounds` rounds, hardly more, on a prompt of its own each time."""
    target, windows, done, seed = TARGETS[family], [], 0, first_seed
    make_drafter, draft_law = (DRAFTERS[family] | TREES[family] | HEADS.get(family, {}))[kind]
    while done < rounds:
        length = min(max(rounds - done, NEW_TOKENS[0]), NEW_TOKENS[1])
        prompt = torch.randint(VOCABULARY, (1, 12), generator=torch.Generator().manual_seed(seed))
        result, rounds_laws = observed(
            target,
            prompt,
            max_new_tokens=length,
            sampling=SamplingParams(**SAMPLING, seed=seed),
            drafter=wrap(make_drafter()),
            schedule=(SCHEDULES | SCHEDULES_OF_TREES)[schedule](),
            verification=verification,
        )
        text = torch.cat([prompt, result.tokens], 1)[:, :-1]
        law = law_of(target)(text)[prompt.shape[1] - 1 :]
        if kind != "none":
            check_laws(rounds_laws, law[1:])
        draft = draft_law(text)[prompt.shape[1] - 1 :] if draft_law else torch.ones_like(law)
        uniforms = integral_transform(law, draft, result.tokens, seed)
        windows += [uniforms[:, start : start + GAMMA + 1] for start in window_starts(result.trace, length)]
        done += len(result.trace.iterations)
        seed += 1
    return Sample(torch.stack(windows), done)


def observed(*arguments, **settings):
    """What `generate` gives, and the target's laws of the tokens its rounds kept, float64 (vocabulary,) each."""
    laws = []

    def recorded(*of_round):
        found = speculate(*of_round)
        laws.extend(torch.from_numpy(law.dense(VOCABULARY)) for law in found.laws)
        return found

    with mock.patch.object(loop, "speculate", recorded):
        return generate(*arguments, **settings), laws


def check_laws(laws, expected):
    """The rounds' own are those of the plain forward; one may differ, by a token at the edge of the nucleus."""
    assert len(laws) == len(expected)
    assert ((torch.stack(laws) - expected).abs().sum(1) > 1e-3).sum() <= 1


def integral_transform(law, draft, tokens, seed):
    """A number in [0, 1) for each token, in both orders, (2, n): independent uniforms if the target drew the tokens.

    Of the laws of each token, target's and draft's, float64 (n, vocabulary).
    """
    chosen = tokens[0][:, None]
    mass = law.gather(1, chosen)
    assert (mass > 0).all()  # nothing outside the nucleus
    # another seed than any of the engine's: its own uniforms would not be independent of its tokens
    generator = torch.Generator().manual_seed(10**9 + seed)
    spread = torch.rand(mass.shape, generator=generator, dtype=torch.float64) * mass
    ids = torch.arange(VOCABULARY).expand_as(law)
    ranks = (draft / law).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    before = [(law * (order < order.gather(1, chosen))).sum(1, keepdim=True) for order in (ids, ranks)]
    return torch.cat([start + spread for start in before], 1).T


def window_starts(trace, length):
    """Indices of new tokens at which a round begins, far enough apart for the windows not to overlap."""
    starts, position, free = [], 1, 0
    for iteration in trace.iterations:
        if position >= free and position + GAMMA < length:
            starts.append(position)
            free = position + GAMMA + 1
        position += iteration.committed
    return starts


def p_value(samples):
    """Of the joint law of gamma + 1 tokens and of the law of one, in both orders: Bonferroni over six.

    By chi-square in cells, which anything wrong changes, and of one token by mean and spread too: few degrees of
    freedom, so that an order preferred shows in two thirds of the rounds.
    """
    windows = torch.cat([sample.windows for sample in samples])
    joint = (digits(windows, BINS) * BINS ** torch.arange(GAMMA + 1)).sum(-1)  # (windows, orders)
    single = digits(windows, BINS**2).transpose(1, 2).flatten(0, 1)  # (tokens, orders)
    counts = [torch.bincount(order, minlength=BINS ** (GAMMA + 1)) for order in joint.T]
    counts += [torch.bincount(order, minlength=BINS**2) for order in single.T]
    found = [chisquare(count.numpy()).pvalue for count in counts]
    found += [smooth_p_value(order) for order in windows.unbind(1)]
    return min(1.0, len(found) * min(found))


def smooth_p_value(uniforms):
    """Neyman's smooth test with the first two Legendre polynomials, normed: chi-square of two degrees of freedom."""
    x = 2 * uniforms.flatten() - 1
    sums = torch.stack([3**0.5 * x, 5**0.5 * (3 * x**2 - 1) / 2]).sum(1)
    return float(chi2.sf(float(sums.square().sum()) / len(x), 2))


def judged(*combination, first_seed=0, **changes):
    """The p-value of a combination, looked at again with more rounds while it is unusual; and its first sample."""
    samples, p = [], 0.0
    for look, rounds in enumerate(LOOKS):
        samples.append(draw_sample(*combination, rounds, first_seed=first_seed + 1000 * look, **changes))
        p = p_value(samples)
        if not FALSE_ALARM < p < USUAL:
            break
    return p, samples[0]


def digits(uniforms, bins):
    return (uniforms * bins).long().clamp_(max=bins - 1)


def test_sampled_output_follows_the_target():
    combinations = list(product(tiny.FAMILIES, KINDS, SCHEDULES, METHODS))
    each = -(-SPREAD // len(combinations))
    samples = {names: draw_sample(*names, each, first_seed=1000 * i) for i, names in enumerate(combinations)}
    assert sum(sample.rounds for sample in samples.values()) >= SPREAD
    assert p_value(samples.values()) > FALSE_ALARM
    for name in (*tiny.FAMILIES, *KINDS, *SCHEDULES, *METHODS):
        assert p_value([sample for names, sample in samples.items() if name in names]) > FALSE_ALARM, name


def test_sampled_trees_follow_the_target():
    """A generation of each rule in each family, the kinds in turn; the slow test draws them all."""
    kinds = zip(product(tiny.FAMILIES, OF_TREES), cycle(TREES["llama"]))
    samples = {
        (family, rule): draw_sample(family, kind, "all nodes", rule, 100, first_seed=1000 * i)
        for i, ((family, rule), kind) in enumerate(kinds)
    }
    for name in (*tiny.FAMILIES, *OF_TREES):
        assert p_value([sample for names, sample in samples.items() if name in names]) > FALSE_ALARM, name


@pytest.mark.parametrize("kind", HEADS["llama"])
def test_sampled_output_of_a_cascade_of_a_feature_head_follows_the_target(kind):
    combinations = enumerate(product(tiny.FAMILIES, METHODS))
    samples = [draw_sample(f, kind, "constant", rule, 150, first_seed=1000 * i) for i, (f, rule) in combinations]
    assert p_value(samples) > FALSE_ALARM


@pytest.mark.parametrize("family", tiny.OTHERS)
def test_sampled_output_follows_a_target_of_another_family(family):
    sample = draw_sample(family, "draft model", "constant", "token", 500)
    assert p_value([sample]) > FALSE_ALARM


def check_each(kind, families, schedules, verification, first_seed):
    """Each combination on its own; then, of what was drawn first, each architecture, each schedule, and all."""
    first = {}
    for i, (family, schedule) in enumerate(product(families, schedules)):
        p, first[family, schedule] = judged(family, kind, schedule, verification, first_seed=first_seed + 10_000 * i)
        assert p > FALSE_ALARM, (family, schedule)
    for name in (*families, *schedules):
        assert p_value([sample for names, sample in first.items() if name in names]) > FALSE_ALARM, name
    assert p_value(first.values()) > FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verification", METHODS)
def test_each_combination_follows_the_target(kind, verification):
    """With every architecture and every schedule."""
    which = len(KINDS) * METHODS.index(verification) + KINDS.index(kind)
    check_each(kind, tiny.EVERY, SCHEDULES, verification, first_seed=10**6 * which)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TREES["llama"])
@pytest.mark.parametrize("verification", OF_TREES)
def test_each_tree_follows_the_target(kind, verification):
    which = [*TREES["llama"]].index(kind) + len(TREES["llama"]) * OF_TREES.index(verification)
    check_each(kind, tiny.FAMILIES, SCHEDULES_OF_TREES, verification, first_seed=10**6 * (100 + which))


# Negative controls: each way to be wrong must show, whatever looks usual at first.


def shows(*combination, **changes):
    """Whether the looks at a combination end with the finding that its text is not the target's."""
    return judged(*combination, **changes)[0] < FALSE_ALARM


@pytest.mark.parametrize("kind", ["draft model", "prompt lookup"])
@pytest.mark.parametrize("verification", METHODS)
def test_a_biased_residual_is_caught(verification, kind, monkeypatch):
    """The target's own law after a rejection, as TriForce's middle model samples."""
    monkeypatch.setattr(verification_module.Rest, "refuse", lambda rest, draft: None)
    assert shows("llama", kind, "constant", verification)


@pytest.mark.slow
@pytest.mark.parametrize("verification", METHODS)
def test_a_residual_that_is_biased_in_a_third_of_the_rounds_is_caught_in_the_product(verification, monkeypatch):
    refuse, coin = verification_module.Rest.refuse, random.Random(0)

    def sometimes(rest, draft):
        if coin.random() > 1 / 3:
            refuse(rest, draft)

    monkeypatch.setattr(verification_module.Rest, "refuse", sometimes)
    with pytest.raises(AssertionError):
        check_each("prompt lookup", tiny.EVERY, SCHEDULES, verification, first_seed=0)


class Dropping(Drafter):
    """A drafter that breaks the rules: it drops drafted tokens because of their value."""

    def __init__(self, inner):
        self.inner = inner
        self.start, self.models, self.rollback = inner.start, inner.models, inner.rollback
        self.prefilled = inner.prefilled

    def propose(self, context, gamma, stop):
        proposal = self.inner.propose(context, gamma, stop)
        kept = int((proposal.tokens >= VOCABULARY // 2).long().cumprod(0).sum())
        self.rollback(len(context) + kept)
        return Proposal(proposal.tokens[:kept], proposal.laws[:kept])


@pytest.mark.parametrize("verification", METHODS)
def test_a_dropped_token_is_caught(verification):
    assert shows("llama", "draft model", "constant", verification, wrap=Dropping)
