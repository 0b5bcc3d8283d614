"""Sampled output of batches and of both fusions follows the law it should, by chi-square on three tokens jointly.

Lossless: the target's own law. Lossy (the target's cache compressed, once or under a budget while decoding): that of
autoregressive decoding on that cache. Both by enumeration, without the loop. All rows of all batches are pooled. The
first look is at a thousand outcomes; where they are not usual for the law (p < 1/4) at twice as many, up to 4,000.
"""

from copy import copy
from dataclasses import replace
from itertools import count, islice

import pytest
import tiny
import torch
from scipy.stats import chisquare

import specpress.speculation.verification as verification_module
from specpress import SamplingParams, generate
from specpress.drafters import Cascade, CompressedTarget, DraftModel, PromptLookup
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.laws.sampling import probabilities
from specpress.presses import Compression, get_press
from specpress.schedules import AIMD, Constant
from specpress.speculation.prefill import prefill
from specpress.speculation.rounds import speculate_rows

VOCABULARY = 5
LOOKS = (1_000, 1_000, 2_000)  # outcomes, as long as what was drawn before is unusual
USUAL, FALSE_ALARM = 1 / 4, 1e-9
SAMPLING = {"temperature": 1.2, "top_p": 0.97}
TARGET = tiny.llama(1, vocabulary=VOCABULARY, seed=3)
DRAFT = tiny.llama(1, vocabulary=VOCABULARY, seed=5)
INTERMEDIATE = tiny.llama(1, vocabulary=VOCABULARY, seed=4)
PROMPT = torch.tensor([[2, 3, 2, 4, 2, 3, 4, 4, 3, 2]])
PRESS = get_press("knorm", compression_ratio=0.6)
FULL, ONCE = Compression(), Compression(PRESS)
BUDGET = Compression(get_press("keydiff"), cache_budget=3, compression_interval=3)
# Its law depends on what the budget evicts; five tokens, the last of them after a compression while decoding.
UNDER_BUDGET = {"target": tiny.llama(1, vocabulary=VOCABULARY, seed=7), "compression": BUDGET, "tokens": 5}


def exact_law(target, compression, tokens):
    """The joint law of the last three of the first `tokens` after the prompt, on a cache so compressed: (125,)."""
    with decode_attention(target):
        cached = CachedModel(target, 32)
        logits = prefill(cached, PROMPT, press=compression.press, budget=compression.cache_budget)
        law = law_after(cached, logits, compression, tokens).view(-1, VOCABULARY**3).sum(0)
    return law / law.sum()


def law_after(cached, logits, compression, tokens):
    """The joint law of the next `tokens` tokens, the first of which the logits are of: (5**tokens,)."""
    law = probabilities(logits[0, -1], SamplingParams(**SAMPLING)).double()
    if tokens == 1:
        return law
    if compression.due(cached.length, PROMPT.shape[1]):
        cached.compress(compression.press, compression.cache_budget, decoding=True)
    branches = []
    for token in range(VOCABULARY):
        branch = copy(cached)
        branch.cache = cached.cache.clone()
        branch.observations = cached.observations and cached.observations.copied()
        branches.append(law_after(branch, branch.feed(torch.tensor([[token]])), compression, tokens - 1))
    return (law[:, None] * torch.stack(branches)).flatten()


def p_value(
    make_drafter,
    *,
    rows=125,
    target=TARGET,
    compression=FULL,
    tokens=3,
    verification="token",
    schedule=Constant,
    padded=False,
):
    """p-value of the joint outcomes of all rows, at the last look.

    `padded` puts a row of another length into the batch, which is not counted.
    """
    prompts, mask = PROMPT.repeat(rows + padded, 1), torch.ones(rows + padded, PROMPT.shape[1], dtype=torch.long)
    if padded:
        mask[-1, :4] = 0
    base, counts = torch.tensor([VOCABULARY**2, VOCABULARY, 1]), torch.zeros(VOCABULARY**3, dtype=torch.float64)
    law, seeds, p = exact_law(target, compression, tokens), count(), 0.0
    for outcomes in LOOKS:
        for seed in islice(seeds, outcomes // rows):
            result = generate(
                target,
                prompts,
                max_new_tokens=tokens,
                drafter=make_drafter(),
                schedule=schedule(2),
                attention_mask=mask,
                sampling=SamplingParams(**SAMPLING, seed=seed),
                verification=verification,
                **vars(compression),
            )
            counts.index_add_(0, (result.tokens[:rows, -3:] * base).sum(1), torch.ones(rows, dtype=torch.float64))
        p = chi_square(counts, law)
        if not FALSE_ALARM < p < USUAL:
            break
    return p


def chi_square(counts, law):
    """The p-value of outcomes counted, under their law; those expected fewer than five times are pooled."""
    expected = law * counts.sum()
    assert counts[expected == 0].sum() == 0  # nothing outside the nucleus
    rare = expected < 5
    observed, expected = (torch.cat([x[~rare], x[rare].sum()[None]]) for x in (counts, expected))
    if expected[-1] < 5:
        observed, expected = observed[:-1], expected[:-1] * observed[:-1].sum() / expected[:-1].sum()
    return chisquare(observed.numpy(), expected.numpy()).pvalue


def draft_model():
    return DraftModel(DRAFT)


def cascade(intermediate=INTERMEDIATE):
    return Cascade(intermediate, draft_model(), gamma=2)


@pytest.mark.parametrize("verification", ["token", "block"])
def test_rows_of_a_batch_follow_the_target(verification):
    assert p_value(draft_model, verification=verification) > FALSE_ALARM


def test_rows_of_a_batch_on_a_compressed_cache_follow_autoregressive_decoding_on_it():
    assert p_value(draft_model, compression=ONCE) > FALSE_ALARM


def test_a_compressed_cache_is_seen(monkeypatch):
    """Negative control: the law on the compressed cache is another than the target's."""
    law = exact_law(TARGET, FULL, 3)
    monkeypatch.setitem(globals(), "exact_law", lambda *arguments: law)
    assert p_value(draft_model, compression=ONCE) < FALSE_ALARM


def test_rows_under_a_budget_follow_autoregressive_decoding_under_it():
    assert p_value(draft_model, **UNDER_BUDGET) > FALSE_ALARM


def test_a_compression_while_decoding_is_seen(monkeypatch):
    """Negative control: without it the law is another."""
    law = exact_law(UNDER_BUDGET["target"], replace(BUDGET, compression_interval=100), 5)
    monkeypatch.setitem(globals(), "exact_law", lambda *arguments: law)
    assert p_value(draft_model, **UNDER_BUDGET) < FALSE_ALARM


def test_a_cascade_leaves_the_law_of_rows():
    assert p_value(cascade, tokens=4) > FALSE_ALARM


def test_a_biased_residual_inside_a_cascade_is_caught(monkeypatch):
    """The intermediate model's own law after a rejection, as TriForce draws it, is not what the target is told.

    Most plainly where the intermediate model is the target itself, which then accepts whatever it is told.
    """

    def biased(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(verification_module.Rest, "refuse", lambda rest, draft: None)
            return speculate_rows(*arguments)

    monkeypatch.setattr("specpress.drafters.cascade.speculate_rows", biased)
    assert p_value(lambda: cascade(TARGET), tokens=4) < FALSE_ALARM


def test_a_biased_residual_is_caught_in_a_batch(monkeypatch):
    monkeypatch.setattr(verification_module.Rest, "refuse", lambda rest, draft: None)
    assert p_value(draft_model) < FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [Constant, lambda gamma: AIMD(gamma, floor=1)], ids=["constant", "aimd"])
@pytest.mark.parametrize("verification", ["token", "block"])
@pytest.mark.parametrize(
    "drafter",
    [
        PromptLookup,
        lambda: CompressedTarget(PRESS),
        lambda: CompressedTarget(PRESS, interval=1),
        lambda: DraftModel(DRAFT, press=PRESS),
        cascade,
    ],
    ids=["lookup", "compressed target", "refreshed target", "compressed draft", "cascade"],
)
@pytest.mark.parametrize("settings", [{"tokens": 4}, UNDER_BUDGET], ids=["full", "budget"])
def test_every_drafter_and_schedule_leaves_the_law_of_rows(drafter, verification, schedule, settings):
    assert p_value(drafter, verification=verification, schedule=schedule, **settings) > FALSE_ALARM


@pytest.mark.slow
def test_rows_beside_a_shorter_one_follow_the_target():
    assert p_value(draft_model, padded=True) > FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize("verification", ["token", "block"])
@pytest.mark.parametrize(
    "drafter", [draft_model, PromptLookup, lambda: CompressedTarget(PRESS)], ids=["draft", "lookup", "self"]
)
def test_one_sequence_on_a_compressed_cache_follows_autoregressive_decoding_on_it(drafter, verification):
    assert p_value(drafter, rows=1, compression=ONCE, verification=verification) > FALSE_ALARM
