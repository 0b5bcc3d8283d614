import math

import pytest
import tiny
import torch

from specpress import perplexity
from specpress.presses import compression, get_press
from specpress.quality import perplexities

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
    monkeypatch.setattr("specpress.quality._CHUNK", chunk)
    model, tokens = tiny.FAMILIES[family](), tiny.prompt(LENGTH, batch=2)
    result = perplexity(model, tokens, context=CONTEXT)
    assert result.n_tokens == 2 * (LENGTH - CONTEXT - 1)
    assert result.nll == pytest.approx(plain_nll(model, tokens, CONTEXT), rel=1e-5)
    assert result.ppl == pytest.approx(math.exp(result.nll / result.n_tokens))


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("name", ["knorm", "streaming_llm"])
def test_one_prefill_for_all_ratios_equals_one_each(family, name):
    model, tokens = tiny.FAMILIES[family](), tiny.prompt(LENGTH)
    presses = [None, *(get_press(name, compression_ratio=ratio) for ratio in (0.0, 0.3, 0.9))]
    together = list(perplexities(model, tokens, context=CONTEXT, presses=presses))
    alone = [perplexity(model, tokens, context=CONTEXT, press=press) for press in presses]
    assert together == alone
    assert together[0] == together[1]  # ratio 0 is no press
    assert together[0].kv_bytes > together[2].kv_bytes > together[3].kv_bytes
    assert together[3].nll != pytest.approx(together[0].nll, rel=1e-5)


@pytest.mark.parametrize("name", ["knorm", "streaming_llm"])
def test_editing_later_tokens_changes_no_earlier_score(name):
    """The original study's causality leak: its press let later tokens reach earlier logits."""
    assert leak(get_press(name, compression_ratio=0.5)) == 0


def test_a_press_inside_the_forward_is_seen_to_leak(monkeypatch):
    """Negative control: compress the scored tokens too, inside the scoring, and the test above must notice."""

    def leaky_teacher_force(target, tokens):
        with compression.observed_attention(target.model) as observations:
            target.feed(tokens[:, :-1])
        compression.compress(target.cache, get_press("knorm", compression_ratio=0.5), observations)
        target.rollback_to(CONTEXT + 1)
        return float(target.feed(tokens[:, 1:2]).float().sum())

    monkeypatch.setattr("specpress.quality._teacher_force", leaky_teacher_force)
    assert leak(None) > 0


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
