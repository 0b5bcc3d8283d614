"""Speculative decoding of a batch: every row as if it were decoded alone."""

from itertools import product

import pytest
import tiny
import torch

from specpress import SamplingParams, generate
from specpress.decoding.generate import prepare
from specpress.drafters import Cascade, CompressedTarget, DraftModel, PromptLookup, QuantizedTarget
from specpress.experiments.press_survey import example
from specpress.presses import get_press, list_presses
from specpress.schedules import AIMD, Confidence, Constant
from specpress.study.abilities import ABILITIES, REFUSED, Ability

GREEDY = SamplingParams(temperature=0)


def knorm(ratio=0.5):
    return get_press("knorm", compression_ratio=ratio)


def wrapped(press):
    return get_press("composed", presses=[press])


DRAFTERS = {
    "weak draft": lambda make: DraftModel(make(1, seed=5)),
    "the target itself": lambda make: DraftModel(make()),
    "compressed draft": lambda make: DraftModel(make(1, seed=5), press=knorm()),
    "prompt lookup": lambda make: PromptLookup(max_ngram=2),
    "compressed target": lambda make: CompressedTarget(knorm()),
    "refreshed target": lambda make: CompressedTarget(knorm(), interval=3),
    "quantized target": lambda make: QuantizedTarget(4, 64, symmetric=True),
    "cascade": lambda make: Cascade(make(1, seed=0), DraftModel(make(1, seed=5)), gamma=2, rounds=3),
    "cascade of a refreshed target": lambda make: Cascade(make(2), CompressedTarget(knorm(), interval=3), gamma=2),
}


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("kind", DRAFTERS)
@pytest.mark.parametrize("verification", ["token", "block"])
def test_a_greedy_batch_equals_its_rows_alone(family, kind, verification):
    make = tiny.FAMILIES[family]
    model, tokens = make(), tiny.prompt(30, batch=3)
    settings = {"max_new_tokens": 24, "sampling": GREEDY}
    alone = torch.cat([generate(model, row[None], **settings).tokens for row in tokens])
    for schedule in (Constant(3), AIMD(floor=1, cap=6), Confidence(0.6, cap=5)):
        drafter = DRAFTERS[kind](make)
        together = generate(model, tokens, drafter=drafter, schedule=schedule, verification=verification, **settings)
        assert torch.equal(together.tokens, alone)


def test_each_row_keeps_the_record_it_would_have_alone():
    """A schedule that adapts learns from its own row: gamma, proposed and accepted, round by round."""
    model, tokens = tiny.llama(), tiny.prompt(30, batch=3)
    settings = {"max_new_tokens": 24, "sampling": GREEDY}

    def adaptive():
        return {"drafter": PromptLookup(), "schedule": AIMD(initial=2, floor=1, cap=6)}

    decoding = prepare(model, tokens, **adaptive(), **settings)
    decoding.run()
    rows = decoding.generations()
    gammas = set()
    for row, prompt in zip(rows, tokens, strict=True):
        alone = generate(model, prompt[None], **adaptive(), **settings)
        assert torch.equal(row.tokens, alone.tokens)
        columns = (row.trace.columns(), alone.trace.columns())
        assert all(columns[0][name] == columns[1][name] for name in ("gamma", "proposed", "accepted", "committed"))
        gammas.add(tuple(columns[0]["gamma"]))
    assert len(gammas) > 1  # each its own


@pytest.mark.parametrize(("family", "kind"), [*product(tiny.FAMILIES, DRAFTERS), *product(tiny.OTHERS, ["cascade"])])
def test_under_a_press_a_batch_equals_its_rows_alone(family, kind):
    make = tiny.EVERY[family]
    model, tokens = make(), tiny.prompt(30, batch=3)
    settings = {"max_new_tokens": 20, "sampling": GREEDY, "press": knorm(0.6)}
    alone = torch.cat([generate(model, row[None], **settings).tokens for row in tokens])
    together = generate(model, tokens, drafter=DRAFTERS[kind](make), **settings)
    assert torch.equal(together.tokens, alone)
    assert together.trace.iterations[0].slots <= 12 + 5


def padded(rows):
    """Rows of different lengths as a batch padded on the left, and its mask."""
    longest = max(map(len, rows))
    tokens, mask = (torch.zeros(len(rows), longest, dtype=torch.long) for _ in range(2))
    for i, row in enumerate(rows):
        tokens[i, -len(row) :], mask[i, -len(row) :] = row, 1
    return tokens, mask


@pytest.mark.parametrize("kind", DRAFTERS)
@pytest.mark.parametrize("lengths", [(12, 5, 9), (1, 12, 12), (7,)])
def test_padded_rows_equal_themselves_alone(kind, lengths):
    model, rows = tiny.llama(), [tiny.prompt(n, seed=n)[0] for n in lengths]
    tokens, mask = padded(rows)
    settings = {"max_new_tokens": 20, "sampling": GREEDY}
    drafter = DRAFTERS[kind](tiny.llama)
    together = generate(model, tokens, attention_mask=mask, drafter=drafter, **settings).tokens
    for got, row in zip(together, rows, strict=True):
        assert torch.equal(got[None], generate(model, row[None], **settings).tokens)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("kind", DRAFTERS)
@pytest.mark.parametrize("name", ["snapkv", "observed_attention"])
def test_a_press_sees_nothing_of_the_padding(family, kind, name):
    make = tiny.FAMILIES[family]
    model, rows = make(), [tiny.prompt(n, seed=n)[0] for n in (40, 24, 33)]
    tokens, mask = padded(rows)
    settings = {"max_new_tokens": 15, "sampling": GREEDY, "press": example(name, 0.6)}
    together = generate(model, tokens, attention_mask=mask, drafter=DRAFTERS[kind](make), **settings).tokens
    for got, row in zip(together, rows, strict=True):
        assert torch.equal(got[None], generate(model, row[None], **settings).tokens)


@pytest.mark.parametrize("kind", ["weak draft", "cascade"])
def test_every_row_is_followed_as_it_grows(kind):
    model, tokens, rounds = tiny.llama(), tiny.prompt(10, batch=3), []
    stop = int(generate(model, tokens, max_new_tokens=20, sampling=GREEDY).tokens[0, 4])
    settings = {"max_new_tokens": 20, "sampling": GREEDY, "eos_token_id": stop}
    result = generate(model, tokens, drafter=DRAFTERS[kind](tiny.llama), on_tokens=rounds.append, **settings)
    assert len(rounds) == 1 + len(result.trace.iterations)
    assert sum(map(len, rounds[1])) == result.trace.iterations[0].committed
    for row, parts in zip(result.tokens.tolist(), zip(*rounds, strict=True), strict=True):
        followed = torch.cat(parts).tolist()
        assert row == followed + [stop] * (20 - len(followed))


def test_rows_end_on_their_own():
    model, tokens = tiny.llama(), tiny.prompt(10, batch=3)
    free = generate(model, tokens, max_new_tokens=20, sampling=GREEDY).tokens
    stop = int(free[0, 4])
    settings = {"max_new_tokens": 20, "sampling": GREEDY, "eos_token_id": stop}
    expected = generate(model, tokens, **settings).tokens
    stopped = generate(model, tokens, drafter=DraftModel(tiny.llama(1, seed=5)), **settings)
    assert torch.equal(stopped.tokens, expected)
    kept = [row.index(stop) + 1 if stop in row else len(row) for row in stopped.tokens.tolist()]
    assert sum(i.committed for i in stopped.trace.iterations) == sum(kept) - 3


@pytest.mark.parametrize("kind", ["weak draft", "prompt lookup", "compressed target"])
def test_rows_of_one_prompt_draw_their_own_tokens(kind):
    sampling = SamplingParams(temperature=2.0, seed=3)
    tokens = tiny.prompt(20).expand(6, -1)
    rows = generate(
        tiny.llama(), tokens, max_new_tokens=12, sampling=sampling, drafter=DRAFTERS[kind](tiny.llama)
    ).tokens
    assert len({tuple(row) for row in rows.tolist()}) == 6


def test_the_trace_sums_over_rows():
    drafter = DraftModel(tiny.llama())
    result = generate(tiny.llama(), tiny.prompt(9, batch=2), max_new_tokens=21, drafter=drafter, schedule=Constant(4))
    first = result.trace.iterations[0]
    assert (first.gamma, first.proposed, first.accepted, first.committed, first.rejections) == (4, 8, 8, 10, 0)
    assert result.metrics()["acceptance_rate"] == 1
    assert result.metrics()["tokens_per_iteration"] == 5
    assert result.trace.kv_bytes == 2 * 2 * (9 + 20) * 2 * 2 * 8 * 4  # rows, K and V, slots, layers, heads, size, bytes


def test_one_forward_verifies_all_rows():
    model, shapes = tiny.llama(), []
    model.register_forward_pre_hook(lambda module, args, kwargs: shapes.append(tuple(args[0].shape)), with_kwargs=True)
    drafter = DraftModel(tiny.llama(1, seed=5))
    result = generate(model, tiny.prompt(9, batch=4), max_new_tokens=12, drafter=drafter, schedule=Constant(3))
    assert len(shapes) == 1 + len(result.trace.iterations)
    assert {rows for rows, _ in shapes} == {4}


def test_growing_past_the_allocated_slots_changes_nothing(monkeypatch):
    from specpress.engine import cache

    monkeypatch.setattr(cache, "_BLOCK", 1)
    model, tokens = tiny.llama(), tiny.prompt(10, batch=2)
    settings = {"max_new_tokens": 20, "sampling": GREEDY}
    together = generate(model, tokens, drafter=CompressedTarget(knorm(0.9)), **settings)
    assert torch.equal(together.tokens, generate(model, tokens, **settings).tokens)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"press": knorm(), "attention_mask": torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])},
            "takes rows of equal length",
        ),
        ({"drafter": PromptLookup(), "press": example("adakv")}, "in every layer, which AdaKVPress does not"),
        ({"drafter": DraftModel(tiny.llama(1), press=example("simlayerkv"))}, "which SimLayerKVPress does not"),
        ({"drafter": CompressedTarget(wrapped(example("pyramidkv")))}, "which ComposedPress does not"),
        ({"drafter": Cascade(tiny.llama(1), CompressedTarget(example("dms")))}, "which DMSPress does not"),
        (
            {"drafter": PromptLookup(), "attention_mask": torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1]])},
            "attention_mask hides a whole row",
        ),
        ({"drafter": DraftModel(tiny.llama(1, vocabulary=50))}, "vocabulary of 50 tokens, the target one of 48"),
    ],
)
def test_batches_that_cannot_be_drafted_for_are_refused(arguments, said):
    model = tiny.llama()
    model.forward = lambda *_, **__: pytest.fail("refused after a forward")
    settings = {"max_new_tokens": 5, "attention_mask": None} | arguments
    tokens = tiny.prompt(20 if settings["attention_mask"] is None else 4, batch=2)
    with pytest.raises(ValueError, match=said):
        generate(model, tokens, **settings)


def test_a_press_of_ones_own_that_keeps_what_it_likes_is_refused_when_it_has():
    """Nothing says so before it runs."""

    class Uneven(type(knorm())):
        def compress(self, module, hidden_states, keys, values, attentions, kwargs):
            kept = 5 + module.layer_idx
            return keys[:, :, :kept], values[:, :, :kept]

    with pytest.raises(ValueError, match="same number of slots in every layer"):
        generate(tiny.llama(), tiny.prompt(20, batch=2), max_new_tokens=5, drafter=PromptLookup(), press=Uneven(0.5))


def even():
    """Presses that are not refused for a batch with a drafter."""
    abilities = {name: ABILITIES.get(name, Ability()) for name in list_presses()}
    return [name for name, ability in abilities.items() if ability.even and ability.status != REFUSED]


@pytest.mark.parametrize("name", even())
def test_presses_that_are_not_refused_for_a_batch_keep_as_many_slots_in_every_layer(name):
    model, tokens = tiny.llama(), tiny.prompt(64, batch=2)  # no whole number of chunks
    settings = {"max_new_tokens": 8, "sampling": GREEDY, "press": example(name)}
    alone = torch.cat([generate(model, row[None], **settings).tokens for row in tokens])
    assert torch.equal(generate(model, tokens, drafter=PromptLookup(), **settings).tokens, alone)


@pytest.mark.parametrize("name", [name for name in list_presses() if ABILITIES.get(name, Ability()).status != REFUSED])
def test_a_press_compresses_each_row_as_if_it_were_alone(name):
    """Without a drafter too: some of kvpress's choose for all rows by the first, or by what they have together."""
    model, tokens = tiny.llama(), tiny.prompt(64, batch=3)
    settings = {"max_new_tokens": 12, "sampling": GREEDY, "press": example(name)}
    alone = [generate(model, row[None], **settings) for row in tokens]
    if len({result.trace.kv_bytes for result in alone}) > 1:  # one tensor holds the keys of all rows
        with pytest.raises(ValueError, match="different numbers of slots of the rows of this batch"):
            generate(model, tokens, **settings)
    else:
        assert torch.equal(generate(model, tokens, **settings).tokens, torch.cat([result.tokens for result in alone]))
