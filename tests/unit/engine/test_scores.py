"""Scores that several ratios share: the caches are those that every press makes by itself."""

from dataclasses import dataclass

import pytest
import tiny
import torch
from kvpress import KnormPress

from specpress.decoding.answers import Setting, answers
from specpress.decoding.perplexity import perplexities
from specpress.engine.scores import Scores
from specpress.presses import Compression, get_press

RATIOS = (0.1, 0.2, 0.25)
SHARED = ("knorm", "tova", "expected_attention", "keydiff", "random", "snapkv")
BY_RATIO = ("adaptive", "hybrid", "optimized_hybrid", "streaming_llm")


@pytest.fixture(scope="module")
def model():
    return tiny.FAMILIES["llama"](2)


@pytest.fixture
def scored(monkeypatch):
    """The layers that were asked about, and those that were scored."""
    asked, made, of = [], [], Scores.of

    def counted(self, scorer, place, score):
        asked.append(place[0])
        return of(self, scorer, place, lambda press: made.append(place[0]) or score(press))

    monkeypatch.setattr(Scores, "of", counted)
    return asked, made


def quality(model, presses) -> list[tuple]:
    settings = [Compression(press) for press in presses]
    settings += [Compression(press, 90, 5) for press in presses]
    found = perplexities(model, tiny.prompt(120), context=100, settings=settings)
    return [(each.nll, each.acceptance, each.slots) for each in found]


def said(model, presses) -> list:
    tokens = torch.cat([tiny.prompt(100, seed=seed) for seed in (0, 1)])
    settings = [Setting(Compression(press), aware) for press in presses for aware in (False, True)]
    parts = {"settings": settings, "max_new_tokens": 4}
    found = answers(model, tokens[:, :90], tokens[:, 90:98], tokens[:, 98:], **parts)
    return [[row.tolist() for row in each.tokens] for each in found]


@pytest.mark.parametrize("name", SHARED + BY_RATIO)
@pytest.mark.parametrize("result", [quality, said])
def test_they_are_those_of_each_press_alone(model, name, result, scored, monkeypatch):
    presses = [get_press(name, compression_ratio=ratio) for ratio in RATIOS]
    found = result(model, presses)
    assert scored[0]
    monkeypatch.setattr(Scores, "of", lambda self, scorer, layer, score: score(scorer))
    assert result(model, presses) == found


@pytest.mark.parametrize("name", SHARED + BY_RATIO)
def test_a_layer_is_scored_once_unless_the_ratio_is_read(model, name, scored):
    settings = [Compression(get_press(name, compression_ratio=ratio)) for ratio in RATIOS]
    list(perplexities(model, tiny.prompt(120), context=100, settings=settings))
    asked, made = scored
    assert sorted(asked) == sorted([0, 1] * len(RATIOS))
    assert len(made) == (2 if name in SHARED else len(asked))


@dataclass
class Counting(KnormPress):
    """A press that keeps something of what it has scored."""

    calls: int = 0

    def score(self, *arguments):
        self.calls += 1
        return super().score(*arguments) * self.calls


@dataclass
class Holding(KnormPress):
    """A press that no plain settings tell from others."""

    weights: tuple = (1.0,)

    def score(self, *arguments):
        return super().score(*arguments) * self.weights[0]


def of(scores, press):
    module = torch.nn.Identity()
    return scores.of(press, 0, lambda p: p.score(module, None, torch.ones(1, 1, 3, 2), None, None, {}))


def test_a_press_that_changes_is_scored_itself_each_time():
    scores, press = Scores(), Counting(0.5)
    first, second = of(scores, press), of(scores, press)
    assert press.calls == 2
    assert second.equal(2 * first)


def test_presses_of_other_settings_share_nothing():
    scores = Scores()
    assert of(scores, KnormPress(0.5)) is of(scores, KnormPress(0.1))
    assert of(scores, Counting(0.5, calls=3)).equal(4 * of(scores, KnormPress(0.5)))
    assert of(scores, Holding(0.5, (3.0,))).equal(3 * of(scores, KnormPress(0.5)))
    assert of(scores, Holding(0.5, (2.0,))).equal(2 * of(scores, KnormPress(0.5)))
