"""Answers on compressed caches, against plain decoding, and against the same done token by token."""

import pytest
import tiny
import torch

from specpress import SamplingParams, generate
from specpress.decoding.answers import Setting, answers
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.observation import Observations
from specpress.presses import Compression, get_press

NEW = 6
FULL = Setting(Compression())
GREEDY = SamplingParams(temperature=0)


def asked(batch=1, *, lead=2):
    """Contexts of 40 tokens, questions of 7, leads."""
    tokens = tiny.prompt(47 + lead, batch=batch)
    return tokens[:, :40], tokens[:, 40:47], tokens[:, 47:]


def said(model, parts, *settings, **options):
    found = answers(model, *parts, settings=settings, max_new_tokens=NEW, **options)
    return [[row.tolist() for row in each.tokens] for each in found]


def setting(name, aware=False, ratio=0.5, **options):
    return Setting(Compression(get_press(name, compression_ratio=ratio, **options)), aware)


@pytest.mark.parametrize("family", tiny.EVERY)
def test_the_full_cache_answers_as_generate_does(family):
    model, parts = tiny.EVERY[family](), asked(2)
    expected = generate(model, torch.cat(parts, 1), max_new_tokens=NEW, sampling=GREEDY).tokens.tolist()
    assert said(model, parts, FULL, Setting(Compression(), aware=True)) == [expected, expected]


@pytest.mark.parametrize("family", tiny.EVERY)
@pytest.mark.parametrize(
    ("name", "options"),
    [("knorm", {}), ("streaming_llm", {"n_sink": 2}), ("snapkv", {"window_size": 4}), ("observed_attention", {})],
)
def test_a_press_that_sees_the_question_answers_as_generate_goes_on(family, name, options):
    """`generate` takes its first token from the uncompressed cache: it is the lead here, the rest must be the same."""
    model, (contexts, questions, _) = tiny.EVERY[family](), asked()
    prompt = torch.cat([contexts, questions], 1)
    press = get_press(name, compression_ratio=0.5, **options)
    expected = generate(model, prompt, max_new_tokens=NEW + 1, sampling=GREEDY, press=press).tokens.tolist()[0]
    parts = contexts, questions, torch.tensor([expected[:1]])
    assert said(model, parts, setting(name, aware=True, **options)) == [[expected[1:]]]


@pytest.mark.parametrize("family", tiny.EVERY)
def test_a_press_that_does_not_see_the_question_compresses_the_context_alone(family):
    """By hand: read the context, compress, and feed question, lead and answer a token at a time."""
    model, parts = tiny.EVERY[family](), asked()
    cached = CachedModel(model, 80)
    cached.observations = Observations(model)
    expected = []
    with decode_attention(model):
        cached.feed(parts[0])
        cached.compress(get_press("snapkv", compression_ratio=0.5, window_size=4))
        assert cached.cache.slots == 20
        cached.observations = None
        for token in torch.cat(parts[1:], 1)[0]:
            logits = cached.feed(token.view(1, 1))
        for _ in range(NEW):
            expected.append(int(logits[0, -1].argmax()))
            logits = cached.feed(torch.tensor([expected[-1:]]))
    assert said(model, parts, setting("snapkv", window_size=4)) == [[expected]]


def test_settings_do_not_touch_each_other_and_a_row_is_answered_as_alone():
    model, parts = tiny.llama(), asked(3)
    settings = [setting("knorm"), setting("snapkv", aware=True, window_size=4), FULL, setting("knorm", ratio=0.8),
                setting("observed_attention", aware=True), setting("observed_attention")]  # fmt: skip
    together = said(model, parts, *settings)
    assert together == [said(model, parts, each)[0] for each in settings]
    for r in range(3):
        assert [each[r] for each in together] == [
            each[0] for each in said(model, tuple(part[r : r + 1] for part in parts), *settings)
        ]


def test_the_size_is_that_of_the_cache_once_compressed():
    found = list(answers(tiny.llama(), *asked(2), settings=[FULL, setting("knorm"), setting("knorm", True)],
                         max_new_tokens=NEW))  # fmt: skip
    assert [each.slots for each in found] == [40, 20, 23]  # 47 tokens with the question
    assert found[0].kv_bytes == 2 * found[1].kv_bytes


def test_a_row_ends_with_the_end_of_text_and_answering_with_the_last_row():
    model, parts = tiny.llama(), asked(2)
    ((first, second),) = said(model, parts, FULL)
    stop = first[2]
    ((cut, other),) = said(model, parts, FULL, eos_token_id=stop)
    assert cut == first[: first.index(stop) + 1]
    assert other == (second[: second.index(stop) + 1] if stop in second else second)


def test_a_press_past_a_window_of_attention_is_refused():
    model, parts = tiny.mistral(sliding_window=30), asked()
    assert len(said(model, parts, FULL)[0][0]) == NEW
    with pytest.raises(ValueError, match="window"):
        said(model, parts, FULL, setting("knorm"))


def test_what_does_not_fit_the_models_context_is_refused():
    with pytest.raises(ValueError, match="do not fit the model's context of 50 tokens"):
        said(tiny.llama(max_position_embeddings=50), asked(), FULL)
