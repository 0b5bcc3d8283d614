"""Sampled output through the whole engine follows the target's law, whatever drafts, schedules or verifies.

Chi-square on the joint law of the first three tokens of many seeded generations, at a false-alarm rate near 1e-9;
negative controls show that the test catches a biased residual and a dropped token.
"""

import pytest
import tiny
import torch
from scipy.stats import chisquare

import specpress.verification as verification_module
from specpress import SamplingParams, generate
from specpress.drafters import Drafter, DraftModel, PromptLookup
from specpress.drafters.base import Proposal
from specpress.sampling import probabilities
from specpress.schedules import AIMD, Constant

VOCABULARY = 5
ROUNDS = 4_000  # generations; each gives one joint outcome of three tokens
FALSE_ALARM = 1e-9
SAMPLING = {"temperature": 1.2, "top_p": 0.97}

TARGET = tiny.llama(1, vocabulary=VOCABULARY, seed=3)
DRAFT = tiny.llama(1, vocabulary=VOCABULARY, seed=4)
PROMPT = torch.tensor([[2, 3, 2, 4, 2, 3]])


def exact_law():
    """The target's joint law of three tokens after the prompt, by enumeration: (125,)."""
    sampling = SamplingParams(**SAMPLING)
    law = torch.ones(1, dtype=torch.float64)
    prefixes = PROMPT
    for _ in range(3):
        with torch.inference_mode():
            conditional = probabilities(TARGET(prefixes).logits[:, -1], sampling).double()
        law = (law[:, None] * conditional).flatten()
        nexts = torch.arange(VOCABULARY).repeat(len(prefixes))[:, None]
        prefixes = torch.cat([prefixes.repeat_interleave(VOCABULARY, 0), nexts], 1)
    return law / law.sum()


EXACT = exact_law()


def p_value(make_drafter, make_schedule, verification, rounds=ROUNDS):
    """p-value of the joint outcomes; outcomes expected fewer than five times are pooled."""
    counts = torch.zeros(VOCABULARY**3, dtype=torch.float64)
    base = torch.tensor([VOCABULARY**2, VOCABULARY, 1])
    for seed in range(rounds):
        sampling = SamplingParams(**SAMPLING, seed=seed)
        result = generate(
            TARGET,
            PROMPT,
            max_new_tokens=3,
            sampling=sampling,
            drafter=make_drafter(),
            schedule=make_schedule(),
            verification=verification,
        )
        counts[(result.tokens[0] * base).sum()] += 1
    rare = EXACT * rounds < 5
    observed = torch.cat([counts[~rare], counts[rare].sum()[None]])
    expected = torch.cat([EXACT[~rare], EXACT[rare].sum()[None]]) * rounds
    assert counts[EXACT == 0].sum() == 0  # nothing outside the nucleus
    if expected[-1] < 5:
        observed, expected = observed[:-1], expected[:-1] * observed[:-1].sum() / expected[:-1].sum()
    return chisquare(observed.numpy(), expected.numpy()).pvalue


class Dropping(Drafter):
    """A drafter that breaks the rules: it drops a drafted token because of its value."""

    def __init__(self):
        self.inner = DraftModel(DRAFT)
        self.start, self.models, self.rollback = self.inner.start, self.inner.models, self.inner.rollback

    def propose(self, context, gamma, stop):
        proposal = self.inner.propose(context, gamma, stop)
        kept = len(proposal.tokens) if proposal.tokens[-1] != 2 else len(proposal.tokens) - 1
        return Proposal(proposal.tokens[:kept], proposal.laws[:kept])


DRAFTERS = {"none": lambda: None, "draft_model": lambda: DraftModel(DRAFT), "prompt_lookup": lambda: PromptLookup()}


@pytest.mark.slow
@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("schedule", [lambda: Constant(2), lambda: AIMD(initial=1, floor=1)], ids=["constant", "aimd"])
@pytest.mark.parametrize("verification", ["token", "block"])
def test_sampled_output_follows_the_target(drafter, schedule, verification):
    assert p_value(DRAFTERS[drafter], schedule, verification) > FALSE_ALARM


@pytest.mark.slow
def test_a_biased_residual_is_caught(monkeypatch):
    monkeypatch.setattr(verification_module, "residual", lambda target, draft, weight=1.0: target)
    assert p_value(DRAFTERS["draft_model"], lambda: Constant(2), "token") < FALSE_ALARM


@pytest.mark.slow
def test_a_dropped_token_is_caught():
    assert p_value(Dropping, lambda: Constant(2), "token") < FALSE_ALARM
