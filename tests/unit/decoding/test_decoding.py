"""The loop against transformers' own generate (greedy), and its law against the target's (sampled)."""

from itertools import product

import numpy as np
import pytest
import tiny
import torch

from specpress import SamplingParams, generate
from specpress.drafters import Cascade, CompressedTarget, Drafter, DraftModel, PromptLookup, Proposal
from specpress.presses import get_press
from specpress.schedules import AIMD, Confidence, Constant, Heuristic, Optimal, PlusMinusOne

GREEDY = SamplingParams(temperature=0)


def drafters(family):
    """Fresh drafters of each kind for a target of the family."""
    make = tiny.EVERY[family]

    def part():
        return tiny.with_subset_head(make(), tiny.VOCABULARY * 2 // 3)

    return {
        "none": lambda: None,
        "weak draft": lambda: DraftModel(make(1, seed=5)),
        "the target itself": lambda: DraftModel(make()),
        "subset head": lambda: DraftModel(part()),
        "prompt lookup": lambda: PromptLookup(max_ngram=2),
        "compressed target": lambda: CompressedTarget(get_press("knorm", compression_ratio=0.5)),
        "cascade": lambda: Cascade(make(2, seed=6), DraftModel(make(1, seed=5)), gamma=2, rounds=2),
        "cascade of a subset head": lambda: Cascade(part(), DraftModel(make(1, seed=5)), gamma=2),
        "cascade of the target": lambda: Cascade(make(), PromptLookup(), gamma=3, rounds=4),
    }


KINDS = list(drafters("llama"))
SCHEDULES = {
    "constant 1": lambda: Constant(1),
    "constant 5": lambda: Constant(5),
    "aimd": lambda: AIMD(floor=2, cap=6),
    "plus minus one": lambda: PlusMinusOne(),
    "heuristic": lambda: Heuristic(),
    "confidence": lambda: Confidence(0.6, cap=6),
    "optimal": lambda: Optimal(cap=8),
}


def reference(model, tokens, new, **settings):
    """transformers' greedy tokens, (new,)."""
    out = model.generate(tokens, max_new_tokens=new, do_sample=False, pad_token_id=0, eos_token_id=None, **settings)
    return out[:, tokens.shape[1] :]


@pytest.mark.parametrize(
    ("family", "kind", "schedule", "verification"),
    [
        *product(tiny.FAMILIES, KINDS, SCHEDULES, ["token", "block"]),
        *product(tiny.OTHERS, KINDS, ["constant 5"], ["token"]),
    ],
)
def test_greedy_tokens_equal_transformers_generate(family, kind, schedule, verification):
    model = tiny.EVERY[family]()
    for seed, length in enumerate((1, 30)):
        tokens = tiny.prompt(length, seed=seed)
        result = generate(
            model,
            tokens,
            max_new_tokens=24,
            sampling=GREEDY,
            drafter=drafters(family)[kind](),
            schedule=SCHEDULES[schedule](),
            verification=verification,
        )
        assert result.tokens.tolist() == reference(model, tokens, 24).tolist()


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("new", [1, 2, 3, 7])
def test_the_length_limit_is_exact(kind, new):
    result = generate(tiny.llama(), tiny.prompt(5), max_new_tokens=new, drafter=drafters("llama")[kind]())
    assert result.tokens.shape == (1, new)
    assert sum(i.committed for i in result.trace.iterations) == new - 1


@pytest.mark.parametrize(
    ("family", "name"), [*product(tiny.FAMILIES, ["knorm", "streaming_llm"]), *product(tiny.OTHERS, ["keydiff"])]
)
def test_under_a_press_every_drafter_gives_the_autoregressive_tokens(family, name):
    model, tokens = tiny.EVERY[family](), tiny.prompt(40)
    settings = {"max_new_tokens": 24, "sampling": GREEDY, "press": get_press(name, compression_ratio=0.6)}
    alone = generate(model, tokens, **settings)
    assert alone.trace.iterations[0].slots == 16 + 1
    for make_drafter in list(drafters(family).values())[1:]:
        for verification in ("token", "block"):
            result = generate(model, tokens, drafter=make_drafter(), verification=verification, **settings)
            assert torch.equal(result.tokens, alone.tokens)


def test_a_press_gives_the_tokens_of_kvpress_own_context_manager():
    """Token by token on transformers' cache, at true positions."""
    from transformers import DynamicCache

    model, tokens = tiny.llama(), tiny.prompt(40, batch=2)
    # No norms: equal tokens have one in the first layer, of which rounding chooses.
    press, cache = get_press("snapkv", compression_ratio=0.6, window_size=8), DynamicCache()
    with torch.inference_mode():
        with press(model):
            logits = model(tokens, past_key_values=cache).logits
        expected = [logits[:, -1:].argmax(-1)]
        for position in range(40, 59):
            positions = torch.tensor([[position]])
            logits = model(expected[-1], past_key_values=cache, position_ids=positions).logits
            expected.append(logits.argmax(-1))
    ours = generate(model, tokens, max_new_tokens=20, sampling=GREEDY, press=press).tokens
    assert torch.equal(ours, torch.cat(expected, 1))


class Silent(Drafter):
    """Never has anything to propose."""

    def propose(self, context, gamma, stop):
        return Proposal(context[:0], [])


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("made", [AIMD, Heuristic, Optimal, PlusMinusOne])
def test_rounds_without_a_draft_teach_a_schedule_nothing(made, rows):
    model, tokens, schedule = tiny.llama(), tiny.prompt(5, batch=rows), made()
    settings = {"max_new_tokens": 12, "sampling": GREEDY}
    drafted = generate(model, tokens, drafter=Silent(), schedule=schedule, **settings)
    assert torch.equal(drafted.tokens, generate(model, tokens, **settings).tokens)
    assert schedule.gamma == made().gamma


def test_perfect_drafts_are_all_accepted():
    model = tiny.llama()
    result = generate(model, tiny.prompt(9), max_new_tokens=21, drafter=DraftModel(tiny.llama()), schedule=Constant(4))
    assert result.metrics()["acceptance_rate"] == 1
    assert result.metrics()["tokens_per_iteration"] == 5


@pytest.mark.parametrize("kind", ["none", "weak draft", "the target itself"])
def test_end_of_text_stops(kind):
    model, tokens = tiny.llama(), tiny.prompt(10)
    plain = reference(model, tokens, 30)[0].tolist()
    stop = plain[11]
    expected = plain[: plain.index(stop) + 1]
    drafter = drafters("llama")[kind]()
    result = generate(model, tokens, max_new_tokens=30, sampling=GREEDY, drafter=drafter, eos_token_id=[stop, 999])
    assert result.tokens[0].tolist() == expected


@pytest.mark.parametrize("family", tiny.EVERY)
def test_a_padded_batch_equals_its_rows_alone(family):
    model = tiny.EVERY[family]()
    rows = [tiny.prompt(n, seed=n)[0] for n in (12, 5, 9)]
    tokens, mask = torch.zeros(3, 12, dtype=torch.long), torch.zeros(3, 12, dtype=torch.long)
    for i, row in enumerate(rows):
        tokens[i, -len(row) :], mask[i, -len(row) :] = row, 1
    together = generate(model, tokens, max_new_tokens=20, sampling=GREEDY, attention_mask=mask).tokens
    for i, row in enumerate(rows):
        assert together[i].tolist() == reference(model, row[None], 20)[0].tolist()


def test_rows_of_a_batch_that_ended_repeat_their_end_of_text():
    model, tokens = tiny.llama(), tiny.prompt(10, batch=3)
    free = generate(model, tokens, max_new_tokens=20, sampling=GREEDY).tokens
    stop = int(free[0, 4])
    stopped = generate(model, tokens, max_new_tokens=20, sampling=GREEDY, eos_token_id=stop).tokens
    for row, plain in zip(stopped.tolist(), free.tolist(), strict=True):
        end = plain.index(stop) + 1 if stop in plain else len(row)
        assert row == plain[:end][: len(row)] + [stop] * (len(row) - end)


def test_a_seed_gives_the_same_tokens_and_another_seed_others():
    def sample(seed):
        sampling = SamplingParams(temperature=1.5, seed=seed)
        drafter = DraftModel(tiny.llama(1, seed=5))
        return generate(tiny.llama(), tiny.prompt(5), max_new_tokens=30, sampling=sampling, drafter=drafter).tokens

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))


def test_on_tokens_sees_every_token_in_order():
    seen = []
    drafter = DraftModel(tiny.llama(1, seed=5))
    result = generate(tiny.llama(), tiny.prompt(5), max_new_tokens=25, drafter=drafter, on_tokens=seen.append)
    assert torch.equal(torch.cat(seen, dim=1), result.tokens)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"input_ids": torch.empty(1, 0, dtype=torch.long)}, "the prompt is empty"),
        ({"input_ids": torch.zeros(4, dtype=torch.long)}, "must be \\(batch, prompt_len\\)"),
        ({"input_ids": tiny.prompt(300)}, "do not fit the model's context of 256 tokens"),
        ({"input_ids": torch.tensor([[5, tiny.VOCABULARY]])}, "must be integers from 0 to 47"),
        (
            {"drafter": DraftModel(tiny.llama(1, max_position_embeddings=8))},
            "fit the draft model's context of 8",
        ),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"verification": "guess"}, "unknown verification 'guess'; known: token, block"),
        ({"drafter": DraftModel(tiny.llama(1, vocabulary=50))}, "vocabulary of 50 tokens, the target one of 48"),
        (
            {"drafter": tiny.llama(1)},
            "drafter must be a Drafter, such as DraftModel\\(model\\), got an object of L",
        ),
        ({"drafter": PromptLookup}, "drafter must be a Drafter, .*, got the class PromptLookup"),
        ({"drafter": PromptLookup(), "schedule": 4}, "schedule must be a Schedule, such as Constant\\(4\\), got"),
        ({"input_ids": torch.ones(1, 4, dtype=torch.bool)}, "must be integers from 0 to 47"),
        (
            {"drafter": CompressedTarget(get_press("snapkv", compression_ratio=0.5))},
            "a prompt of 4 tokens is too short for it",
        ),
        (
            {"drafter": DraftModel(tiny.llama(1), press=get_press("snapkv", compression_ratio=0.5))},
            "a prompt of 4 tokens is too short for it",
        ),
        (
            {"drafter": Cascade(tiny.llama(1), CompressedTarget(get_press("snapkv", compression_ratio=0.5)))},
            "a prompt of 4 tokens is too short for it",
        ),
        ({"attention_mask": torch.ones(1, 3)}, "must have the shape of input_ids, \\(1, 4\\), got \\(1, 3\\)"),
        ({"attention_mask": torch.tensor([[1, 1, 1, 0]])}, "must hide padding on the left alone"),
        ({"attention_mask": torch.tensor([[0, 1, 0, 1]])}, "must hide padding on the left alone"),
        ({"attention_mask": torch.zeros(1, 4)}, "attention_mask hides a whole row"),
        ({"cache_budget": 100}, "cache_budget needs a press"),
        (
            {"press": get_press("knorm"), "attention_mask": torch.tensor([[0, 1, 1, 1]])},
            "a press takes rows of equal length",
        ),
    ],
)
def test_bad_input_is_refused(arguments, said):
    arguments = {"input_ids": tiny.prompt(4), "max_new_tokens": 5} | arguments
    with pytest.raises(ValueError, match=said):
        generate(unread(tiny.llama()), arguments.pop("input_ids"), **arguments)


def unread(model):
    """The model; the test fails if it is run."""
    model.forward = lambda *_, **__: pytest.fail("refused after a forward")
    return model


@pytest.mark.parametrize("use", ["target", "drafts for itself", "draft", "verifies in a cascade"])
def test_a_press_on_an_unsupported_family_is_refused(use):
    from transformers import GPT2Config, GPT2LMHeadModel

    other = unread(GPT2LMHeadModel(GPT2Config(vocab_size=tiny.VOCABULARY, n_embd=16, n_layer=1, n_head=2)))
    llama, press = unread(tiny.llama()), get_press("knorm", compression_ratio=0.5)
    model, arguments = {
        "target": (other, {"press": press}),
        "drafts for itself": (other, {"drafter": CompressedTarget(press)}),
        "draft": (llama, {"drafter": DraftModel(other, press=press)}),
        "verifies in a cascade": (llama, {"drafter": Cascade(other, CompressedTarget(press))}),
    }[use]
    with pytest.raises(ValueError, match="presses do not support model family 'gpt2', only gpt_neox, llama, mistral"):
        generate(model, tiny.prompt(4), max_new_tokens=5, **arguments)


@pytest.mark.parametrize(("temperature", "wrong"), [(0, float("nan")), (1, float("nan")), (1, float("inf"))])
def test_logits_that_are_no_numbers_are_refused(temperature, wrong):
    model = tiny.llama()
    bias = torch.zeros(tiny.VOCABULARY)
    bias[3] = wrong
    model.get_output_embeddings().bias = torch.nn.Parameter(bias)
    with pytest.raises(ValueError, match="logits are infinite or no numbers"):
        generate(model, tiny.prompt(4), max_new_tokens=5, sampling=SamplingParams(temperature))


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
@pytest.mark.parametrize("drafter", [None, PromptLookup()])
def test_a_mask_may_be_of_any_dtype(dtype, drafter):
    tokens, mask = tiny.prompt(6, batch=2), torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    settings = {"max_new_tokens": 8, "sampling": GREEDY, "drafter": drafter}
    expected = generate(tiny.llama(), tokens, attention_mask=mask, **settings).tokens
    assert torch.equal(generate(tiny.llama(), tokens, attention_mask=mask.to(dtype), **settings).tokens, expected)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("made", [int, np.int64, torch.tensor])
def test_end_of_text_may_be_a_number_of_any_kind(made, several):
    """Cut in the middle of a block that was accepted whole."""
    model, tokens = tiny.llama(), tiny.prompt(10)
    plain = generate(model, tokens, max_new_tokens=20, sampling=GREEDY).tokens[0].tolist()
    stop = plain[7]
    settings = {"max_new_tokens": 20, "sampling": GREEDY, "schedule": Constant(5)}
    eos = [made(stop), made(999)] if several else made(stop)
    stopped = generate(model, tokens, drafter=DraftModel(tiny.llama()), eos_token_id=eos, **settings).tokens
    assert stopped[0].tolist() == plain[: plain.index(stop) + 1]
