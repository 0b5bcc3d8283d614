import dataclasses
import math
import subprocess
import sys

import pytest
import tiny
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from specpress import SamplingParams, generate, perplexity
from specpress.decoding.perplexity import perplexities
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.compression import compress
from specpress.presses import Compression, get_press
from specpress.speculation.prefill import prefill

LENGTH, CONTEXT = 80, 50


def plain_nll(model, tokens, context):
    """Summed over tokens after index `context`, from one uncached forward."""
    with torch.inference_mode():
        logits = model(tokens[:, :-1], use_cache=False).logits.float()
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
    return float(losses[:, context:].sum())


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("chunk", [7, 256])
def test_without_a_press_it_is_the_models_perplexity(family, chunk, monkeypatch):
    monkeypatch.setattr("specpress.decoding.perplexity._CHUNK", chunk)
    model, tokens = tiny.FAMILIES[family](), tiny.prompt(LENGTH, batch=2)
    result = perplexity(model, tokens, context=CONTEXT)
    assert result.n_tokens == 2 * (LENGTH - CONTEXT - 1)
    assert result.nll == pytest.approx(plain_nll(model, tokens, CONTEXT), rel=1e-5)
    assert result.ppl == pytest.approx(math.exp(result.nll / result.n_tokens))


def test_a_model_that_no_press_knows_has_a_perplexity_and_is_refused_with_one():
    torch.manual_seed(0)
    config = GPT2Config(n_embd=48, n_head=6, n_layer=2, n_positions=256, vocab_size=tiny.VOCABULARY)
    model, tokens = GPT2LMHeadModel(config).eval(), tiny.prompt(LENGTH)
    assert perplexity(model, tokens, context=CONTEXT).nll == pytest.approx(plain_nll(model, tokens, CONTEXT), rel=1e-5)
    with pytest.raises(ValueError, match="presses do not support model family 'gpt2'"):
        perplexity(model, tokens, context=CONTEXT, press=get_press("knorm", compression_ratio=0.5))


def test_tokens_of_32_bits_are_scored_as_those_of_64():
    model, tokens = tiny.llama(), tiny.prompt(LENGTH)
    assert perplexity(model, tokens.int(), context=CONTEXT) == perplexity(model, tokens, context=CONTEXT)


SETTINGS = {
    "once": lambda name, ratio: Compression(get_press(name, compression_ratio=ratio)),
    "decoding": lambda name, ratio: Compression(get_press(name, compression_ratio=ratio), 20, 8),
}


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("name", ["knorm", "expected_attention"])
@pytest.mark.parametrize("mode", SETTINGS)
def test_one_prefill_for_all_ratios_equals_one_each(family, name, mode):
    model, tokens = tiny.FAMILIES[family](), tiny.prompt(LENGTH, batch=2)
    settings = [Compression(), *(SETTINGS[mode](name, ratio) for ratio in (0.0, 0.3, 0.75))]
    together = list(perplexities(model, tokens, context=CONTEXT, settings=settings, acceptance=False))
    alone = [
        perplexity(model, tokens, context=CONTEXT, press=s.press, cache_budget=s.cache_budget, compression_interval=8)
        if s.cache_budget
        else perplexity(model, tokens, context=CONTEXT, press=s.press)
        for s in settings
    ]
    assert together == alone
    if mode == "once":
        assert together[0] == together[1]  # ratio 0 is no press
    assert [result.slots for result in together] == ([50, 50, 35, 12] if mode == "once" else [50, 20, 20, 12])
    assert together[0].kv_bytes * 12 == together[3].kv_bytes * 50
    assert together[3].nll != pytest.approx(together[0].nll, rel=1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("name", ["knorm", "snapkv", "tova", "expected_attention", "key_rerotation"])
def test_under_a_budget_it_scores_what_generation_would_say(family, name):
    """Greedy tokens, generated under a budget, are the most probable ones to a perplexity under the same budget."""
    params = {"snapkv": {"window_size": 6}, "key_rerotation": {"press": "streaming_llm"}}.get(name, {})
    model, press = tiny.FAMILIES[family](), get_press(name, compression_ratio=0.5, **params)
    budget = {"press": press, "cache_budget": 18, "compression_interval": 7}
    tokens = tiny.prompt(CONTEXT)
    text = generate(model, tokens, max_new_tokens=30, sampling=SamplingParams(temperature=0), **budget).tokens
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        original = torch.nn.functional.cross_entropy

        def note(logits, labels, **kwargs):
            seen.append(logits.argmax(-1) == labels)
            return original(logits, labels, **kwargs)

        patch.setattr(torch.nn.functional, "cross_entropy", note)
        perplexity(model, torch.cat([tokens, text], 1), context=CONTEXT, **budget)
    assert torch.cat(seen).all()


def test_acceptance_is_the_overlap_of_the_two_laws():
    """Against laws from whole forwards; a press that removes nothing overlaps fully."""
    model, tokens = tiny.llama(), tiny.prompt(LENGTH)
    tova = get_press("tova", compression_ratio=0.6)
    settings = [Compression(), Compression(get_press("knorm")), Compression(tova)]
    none, whole, part = perplexities(model, tokens, context=CONTEXT, settings=settings)
    assert none.acceptance is None
    assert whole.acceptance == pytest.approx(1, abs=1e-5)
    cached = CachedModel(model, LENGTH)
    with torch.inference_mode(), decode_attention(model):
        p = model(tokens[:, :-1], use_cache=False).logits[:, CONTEXT:].softmax(-1)
        prefill(cached, tokens[:, :CONTEXT], press=tova)
        q = cached.feed(tokens[:, CONTEXT:-1], keep=LENGTH - CONTEXT - 1).softmax(-1)
    assert part.acceptance == pytest.approx(float(torch.minimum(p, q).sum(-1).mean()), rel=1e-4)
    assert part.acceptance < 0.95


def test_timing_steps_changes_nothing_else():
    model, tokens = tiny.llama(), tiny.prompt(LENGTH)
    knorm = get_press("knorm", compression_ratio=0.5)
    settings = [Compression(), Compression(knorm), Compression(knorm, 20, 8)]
    plain = list(perplexities(model, tokens, context=CONTEXT, settings=settings))
    timed = list(perplexities(model, tokens, context=CONTEXT, settings=settings, timed_steps=2))
    assert timed[0] == plain[0]
    assert timed[2] == plain[2]  # under a budget nothing is timed
    assert timed[1].steps["part"] == ["pressed"] * 2
    assert all(min(timed[1].steps[name]) > 0 for name in ("seconds", "before", "after"))
    assert dataclasses.replace(timed[1], steps=None) == plain[1]


@pytest.mark.parametrize("name", ["knorm", "streaming_llm"])
def test_editing_later_tokens_changes_no_earlier_score(name):
    """The original study's causality leak: its press let later tokens reach earlier logits."""
    assert leak(get_press(name, compression_ratio=0.5)) == 0


def test_a_press_inside_the_forward_is_seen_to_leak(monkeypatch):
    """Negative control: compress the scored tokens too, inside the scoring, and the test above must notice."""

    def leaky_teacher_force(full, readers, tokens):
        target = readers[0].cached
        target.feed(tokens[:, :-1])
        compress(target.cache, get_press("knorm", compression_ratio=0.5), target.observations)
        target.rollback_to(CONTEXT + 1)
        readers[0].nll = float(target.feed(tokens[:, 1:2]).float().sum())

    monkeypatch.setattr("specpress.decoding.perplexity._teacher_force", leaky_teacher_force)
    monkeypatch.setattr("specpress.decoding.perplexity.keep_observing", lambda cached, *presses: None)
    assert leak(get_press("knorm")) > 0  # which itself removes nothing, but has the model observed


def leak(press):
    """How much the score of the first tokens moves when only the last tokens are edited (both are fed at once)."""
    model, tokens = tiny.llama(), tiny.prompt(LENGTH)
    edited = tokens.clone()
    edited[:, -10:] = (edited[:, -10:] + 7) % tiny.VOCABULARY
    scores = []
    with pytest.MonkeyPatch.context() as patch:
        original = torch.nn.functional.cross_entropy

        def first_tokens_only(logits, labels, **kwargs):
            return original(logits[:15], labels[:15], **kwargs)

        patch.setattr(torch.nn.functional, "cross_entropy", first_tokens_only)
        for text in (tokens, edited):
            scores.append(perplexity(model, text, context=CONTEXT, press=press).nll)
    return abs(scores[0] - scores[1])


@pytest.mark.parametrize(
    ("length", "context", "said"),
    [
        (50, 49, "50 tokens leave nothing to score after a context of 49: give at least 51"),
        (50, 0, "context must be at least 1"),
        (300, 100, "do not fit the model's context of 256"),
    ],
)
def test_bad_lengths_are_refused(length, context, said):
    with pytest.raises(ValueError, match=said):
        perplexity(tiny.llama(), tiny.prompt(length), context=context)


def test_it_can_be_the_first_thing_imported():
    command = [sys.executable, "-c", "from specpress import perplexity"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
