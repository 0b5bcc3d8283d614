"""Sampled output of batches and of both fusions follows the law it should, by chi-square on three tokens jointly.

Lossless: the target's own law. Lossy (the target's cache compressed): that of autoregressive decoding on that cache.
Both by enumeration, without the loop. All rows of all batches are pooled.
"""

import pytest
import tiny
import torch
from scipy.stats import chisquare

import specpress.verification as verification_module
from specpress import SamplingParams, generate
from specpress.attention import decode_attention
from specpress.cached_model import CachedModel
from specpress.drafters import CompressedTarget, DraftModel, PromptLookup
from specpress.prefill import prefill
from specpress.presses import get_press
from specpress.sampling import probabilities
from specpress.schedules import AIMD, Constant

VOCABULARY, OUTCOMES, FALSE_ALARM = 5, 4_000, 1e-9
SAMPLING = {"temperature": 1.2, "top_p": 0.97}
TARGET = tiny.llama(1, vocabulary=VOCABULARY, seed=3)
DRAFT = tiny.llama(1, vocabulary=VOCABULARY, seed=5)
PROMPT = torch.tensor([[2, 3, 2, 4, 2, 3, 4, 4, 3, 2]])
PRESS = get_press("knorm", compression_ratio=0.6)


def exact_law(prompt, press):
    """The joint law of three tokens after the prompt on a cache compressed after the prompt: (125,)."""
    law, prefixes = torch.ones(1, dtype=torch.float64), [[]]
    with decode_attention(TARGET):
        cached = CachedModel(TARGET, 32)
        after_prompt = prefill(cached, prompt, press=press)[0, -1]
        for _ in range(3):
            conditional = torch.stack(
                [probabilities(next_logits(cached, after_prompt, p), SamplingParams(**SAMPLING)) for p in prefixes]
            )
            law = (law[:, None] * conditional.double()).flatten()
            prefixes = [[*prefix, token] for prefix in prefixes for token in range(VOCABULARY)]
    return law / law.sum()


def next_logits(cached, after_prompt, prefix):
    if not prefix:
        return after_prompt
    logits = cached.feed(torch.tensor([prefix]))[0, -1]
    cached.cache.rollback(len(prefix))
    return logits


def p_value(make_drafter, *, rows=16, press=None, verification="token", schedule=Constant, padded=False):
    """p-value of the joint outcomes of all rows; outcomes expected fewer than five times are pooled.

    `padded` puts a row of another length into the batch, which is not counted.
    """
    prompts, mask = PROMPT.repeat(rows + padded, 1), torch.ones(rows + padded, PROMPT.shape[1], dtype=torch.long)
    if padded:
        mask[-1, :4] = 0
    base, counts = torch.tensor([VOCABULARY**2, VOCABULARY, 1]), torch.zeros(VOCABULARY**3, dtype=torch.float64)
    for seed in range(OUTCOMES // rows):
        settings = {"sampling": SamplingParams(**SAMPLING, seed=seed), "verification": verification, "press": press}
        result = generate(
            TARGET,
            prompts,
            max_new_tokens=3,
            drafter=make_drafter(),
            schedule=schedule(2),
            attention_mask=mask,
            **settings,
        )
        counts.index_add_(0, (result.tokens[:rows] * base).sum(1), torch.ones(rows, dtype=torch.float64))
    expected = exact_law(PROMPT, press) * OUTCOMES
    assert counts[expected == 0].sum() == 0  # nothing outside the nucleus
    rare = expected < 5
    observed, expected = (torch.cat([x[~rare], x[rare].sum()[None]]) for x in (counts, expected))
    if expected[-1] < 5:
        observed, expected = observed[:-1], expected[:-1] * observed[:-1].sum() / expected[:-1].sum()
    return chisquare(observed.numpy(), expected.numpy()).pvalue


def draft_model():
    return DraftModel(DRAFT)


@pytest.mark.parametrize("verification", ["token", "block"])
def test_rows_of_a_batch_follow_the_target(verification):
    assert p_value(draft_model, verification=verification) > FALSE_ALARM


def test_rows_of_a_batch_on_a_compressed_cache_follow_autoregressive_decoding_on_it():
    assert p_value(draft_model, press=PRESS) > FALSE_ALARM


def test_a_compressed_cache_is_seen(monkeypatch):
    """Negative control: the law on the compressed cache is another than the target's."""
    law = exact_law(PROMPT, None)
    monkeypatch.setitem(globals(), "exact_law", lambda prompt, press: law)
    assert p_value(draft_model, press=PRESS) < FALSE_ALARM


def test_a_biased_residual_is_caught_in_a_batch(monkeypatch):
    monkeypatch.setattr(verification_module, "residual", lambda target, draft, weight=1.0: target)
    assert p_value(draft_model) < FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [Constant, lambda gamma: AIMD(gamma, floor=1)], ids=["constant", "aimd"])
@pytest.mark.parametrize("verification", ["token", "block"])
@pytest.mark.parametrize(
    "drafter",
    [PromptLookup, lambda: CompressedTarget(PRESS), lambda: DraftModel(DRAFT, press=PRESS)],
    ids=["lookup", "compressed target", "compressed draft"],
)
def test_every_drafter_and_schedule_leaves_the_law_of_rows(drafter, verification, schedule):
    assert p_value(drafter, verification=verification, schedule=schedule) > FALSE_ALARM


@pytest.mark.slow
def test_rows_beside_a_shorter_one_follow_the_target():
    assert p_value(draft_model, padded=True) > FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize("verification", ["token", "block"])
@pytest.mark.parametrize(
    "drafter", [draft_model, PromptLookup, lambda: CompressedTarget(PRESS)], ids=["draft", "lookup", "self"]
)
def test_one_sequence_on_a_compressed_cache_follows_autoregressive_decoding_on_it(drafter, verification):
    assert p_value(drafter, rows=1, press=PRESS, verification=verification) > FALSE_ALARM
