"""The original's protocol recomputes everything and is as lossless as the rest."""

import pytest
import tiny
import torch

from specpress import SamplingParams, generate
from specpress.decoding import uncached
from specpress.decoding.uncached import generate_uncached
from specpress.laws import law

GREEDY = SamplingParams(temperature=0)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("draft", [None, 0, 5])  # the target itself, another model
@pytest.mark.parametrize("normalise_prefix", [False, True])
def test_greedy_tokens_are_those_of_the_cached_loop(family, draft, normalise_prefix):
    make = tiny.FAMILIES[family]
    settings = {"max_new_tokens": 17, "sampling": GREEDY}
    drafter = None if draft is None else make(1 if draft else 2, seed=draft)
    result = generate_uncached(
        make(), tiny.prompt(6), drafter_model=drafter, gamma=3, normalise_prefix=normalise_prefix, **settings
    )
    assert torch.equal(result.tokens, generate(make(), tiny.prompt(6), **settings).tokens)
    assert sum(i.committed for i in result.trace.iterations) == 16
    if draft == 0:
        assert result.metrics()["acceptance_rate"] == 1


def test_a_draft_may_have_part_of_a_head():
    settings = {"max_new_tokens": 17, "sampling": GREEDY}
    drafter = tiny.with_subset_head(tiny.llama(), 30)
    result = generate_uncached(tiny.llama(), tiny.prompt(6), drafter_model=drafter, gamma=3, **settings)
    assert torch.equal(result.tokens, generate(tiny.llama(), tiny.prompt(6), **settings).tokens)
    assert result.metrics()["acceptance_rate"] > 0


def test_without_a_drafter_a_seed_gives_the_tokens_of_the_cached_loop():
    settings = {"max_new_tokens": 40, "sampling": SamplingParams(temperature=1.5, top_p=0.9, seed=3)}
    assert torch.equal(
        generate_uncached(tiny.llama(), tiny.prompt(6), **settings).tokens,
        generate(tiny.llama(), tiny.prompt(6), **settings).tokens,
    )


@pytest.mark.parametrize("normalise_prefix", [False, True])
def test_every_forward_reads_the_whole_prefix(normalise_prefix):
    """And makes logits of all of it only on request."""
    model, draft, read, asked = tiny.llama(), tiny.llama(1, seed=5), [], []

    def watch(module, args, kwargs, output):
        read.append(args[0].shape[1])
        asked.append(output.logits.shape[1])

    model.register_forward_hook(watch, with_kwargs=True)
    result = generate_uncached(
        model,
        tiny.prompt(8),
        max_new_tokens=12,
        sampling=GREEDY,
        drafter_model=draft,
        gamma=3,
        normalise_prefix=normalise_prefix,
    )
    lengths = [8]
    for iteration in result.trace.iterations:
        lengths.append(8 + 1 + sum(i.committed for i in result.trace.iterations[: len(lengths) - 1]) + iteration.gamma)
    assert read == lengths
    if normalise_prefix:
        assert asked == read
    else:
        assert asked == [1, *(i.gamma + 1 for i in result.trace.iterations)]


def test_the_end_of_text_stops():
    plain = generate(tiny.llama(), tiny.prompt(8), max_new_tokens=20, sampling=GREEDY).tokens[0].tolist()
    stop = plain[9]
    result = generate_uncached(
        tiny.llama(),
        tiny.prompt(8),
        max_new_tokens=20,
        sampling=GREEDY,
        drafter_model=tiny.llama(),
        eos_token_id=stop,
    )
    assert result.tokens[0].tolist() == plain[: plain.index(stop) + 1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"gamma": 0}, "gamma must be at least 1"),
        ({"input_ids": tiny.prompt(4, batch=2)}, "one sequence at a time"),
        ({"input_ids": tiny.prompt(4)[:, :0]}, "the prompt is empty"),
        ({"drafter_model": tiny.llama(1, vocabulary=50)}, "vocabulary of 50 tokens"),
        ({"drafter_model": (tiny.llama(1), None)}, "the draft model must be a model, got a tuple of 2"),
        ({"drafter_model": tiny.llama(1, max_position_embeddings=8)}, "do not fit the draft model's context of 8"),
    ],
)
def test_bad_input_is_refused(arguments, said):
    arguments = {"input_ids": tiny.prompt(4), "max_new_tokens": 5} | arguments
    with pytest.raises(ValueError, match=said):
        generate_uncached(tiny.llama(), arguments.pop("input_ids"), **arguments)


def test_laws_of_the_prefix_stay_where_they_are_made(monkeypatch):
    """The comparator's cost is the original's, a sort of the vocabulary a place, and no law read on the host for it."""
    model, made, here = tiny.llama(), [], []
    plainly, read = uncached.probabilities, law.law_of
    monkeypatch.setattr(uncached, "probabilities", lambda *a: (made.append(len(a[0])), plainly(*a))[1])
    monkeypatch.setattr(law, "law_of", lambda *a: (here.append(len(a[0])), read(*a))[1])
    generate_uncached(model, tiny.prompt(8), max_new_tokens=3, normalise_prefix=True)
    assert len(here) == 3  # one a token
    assert len(made) == 7 + 8 + 9  # every place before it
