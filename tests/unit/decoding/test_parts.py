"""A generation advanced part by part is the one that `generate` runs, whatever happens between two parts."""

from collections import Counter

import pytest
import tiny
import torch

from specpress import SamplingParams, generate
from specpress.decoding.generate import prepare
from specpress.decoding.uncached import generate_uncached, prepare_uncached
from specpress.drafters import DraftModel
from specpress.engine.attention import decode_attention
from specpress.presses import get_press
from specpress.schedules.base import Constant
from specpress.theory.parts import COMPRESSION, DRAFTING, PREFILL, VERIFICATION

SAMPLED = SamplingParams(temperature=0.9, top_p=0.9, seed=3)
CASES = {
    "autoregressive": lambda: {},
    "drafted": lambda: {"drafter": DraftModel(tiny.llama(1)), "schedule": Constant(3)},
    "compressed again": lambda: {
        "drafter": DraftModel(tiny.llama(1)),
        "schedule": Constant(3),
        "press": get_press("knorm", compression_ratio=0.5),
        "cache_budget": 12,
        "compression_interval": 5,
    },
}


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_two_generations_that_take_turns_give_the_tokens_they_give_alone(case, rows):
    model, tokens, made = tiny.llama(), tiny.prompt(24, batch=rows), CASES[case]
    options = {"max_new_tokens": 17, "sampling": SAMPLED}
    alone = generate(model, tokens, **options, **made())
    plain = generate(model, tokens, **options)
    method, baseline = (prepare(model, tokens, **options, **how) for how in (made(), {}))
    with decode_attention(*method.models):
        others = baseline.parts()
        for _ in method.parts():
            next(others, None)
        for _ in others:
            pass
    assert torch.equal(method.generation().tokens, alone.tokens)
    assert torch.equal(baseline.generation().tokens, plain.tokens)


@pytest.mark.parametrize("case", CASES)
def test_parts_are_the_rounds_of_the_trace_and_their_seconds_its_seconds(case):
    model, tokens = tiny.llama(), tiny.prompt(24)
    decoding = prepare(model, tokens, max_new_tokens=17, sampling=SAMPLED, **CASES[case]())
    with decode_attention(*decoding.models):
        parts = list(decoding.parts())
    trace, counts = decoding.trace, Counter(part.name for part in parts)
    assert parts[0].name == PREFILL
    assert parts[0].size == 24
    assert counts[PREFILL] == 1
    assert counts[VERIFICATION] == len(trace.iterations)
    assert counts[DRAFTING] == sum(i.gamma > 0 for i in trace.iterations)
    assert counts[COMPRESSION] == (3 if case == "compressed again" else 0)
    rows = [part.size for part in parts if part.name == VERIFICATION]
    assert rows == [i.proposed + 1 for i in trace.iterations]
    seconds = sum(part.seconds for part in parts[1:])
    assert seconds == pytest.approx(sum(i.seconds for i in trace.iterations))


@pytest.mark.parametrize("drafting", [False, True])
def test_the_uncached_protocol_is_advanced_in_the_same_way(drafting):
    model, tokens = tiny.llama(), tiny.prompt(9)
    options = {"max_new_tokens": 12, "sampling": SAMPLED, "gamma": 3}
    options |= {"drafter_model": tiny.llama(1)} if drafting else {}
    decoding = prepare_uncached(model, tokens, **options)
    with decode_attention(*decoding.models):
        names = Counter(part.name for part in decoding.parts())
    assert torch.equal(decoding.tokens(), generate_uncached(model, tokens, **options).tokens)
    assert names[VERIFICATION] == len(decoding.trace.iterations)
    assert names[DRAFTING] == sum(i.proposed > 0 for i in decoding.trace.iterations)


def test_what_is_taken_back_is_decoded_again():
    model, tokens = tiny.llama(), tiny.prompt(9)
    greedy = SamplingParams(temperature=0)
    decoding = prepare(model, tokens, max_new_tokens=12, sampling=greedy)
    with decode_attention(model):
        parts = decoding.parts()
        for _ in range(12):
            next(parts)
        decoding.rewind_to(9 + 4)
        assert decoding.tokens().shape == (1, 4)
        for _ in parts:
            pass
    assert torch.equal(decoding.tokens(), generate(model, tokens, max_new_tokens=12, sampling=greedy).tokens)
