"""Compression while decoding: drafting changes nothing about the output, whatever is evicted and when."""

import pytest
import tiny
import torch

from specpress import SamplingParams, generate, perplexity
from specpress.decoding.batches import BatchLoop
from specpress.decoding.generate import prepare
from specpress.decoding.loop import Loop
from specpress.drafters import Cascade, CompressedTarget, DraftModel, PromptLookup
from specpress.engine import compression_settings
from specpress.experiments.press_survey import example
from specpress.presses import Compression, get_press
from specpress.schedules import AIMD, Constant

PRESSES = [
    *["cap", "expected_attention", "key_rerotation", "keydiff", "knorm"],
    *["lagkv", "optimized_hybrid", "random", "snapkv", "streaming_llm", "tova"],
]
PROMPT, BUDGET, INTERVAL = tiny.prompt(40), 22, 7
GREEDY = {"max_new_tokens": 30, "sampling": SamplingParams(temperature=0)}
DRAFTERS = {"token": lambda make: DraftModel(make(1, seed=5)), "block": lambda make: DraftModel(make(2, seed=0))}


def settings(name, ratio=0.3):
    return {"press": example(name, ratio), "cache_budget": BUDGET, "compression_interval": INTERVAL}


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("name", PRESSES)
def test_speculative_equals_autoregressive_under_the_same_schedule(family, name):
    """With a draft that is mostly rejected, verified by token, and one that is mostly accepted, verified by block."""
    make = tiny.FAMILIES[family]
    model = make()
    alone = generate(model, PROMPT, **settings(name), **GREEDY)
    assert max(iteration.slots for iteration in alone.trace.iterations) == BUDGET + INTERVAL
    assert not torch.equal(alone.tokens, generate(model, PROMPT, **GREEDY).tokens)  # the budget bites
    for verification, drafter in DRAFTERS.items():
        drafted = generate(model, PROMPT, drafter=drafter(make), verification=verification, **settings(name), **GREEDY)
        assert torch.equal(drafted.tokens, alone.tokens)


@pytest.mark.parametrize("drafter", [PromptLookup, lambda: CompressedTarget(example("snapkv"), interval=5)])
def test_other_drafters_and_schedules_obey_it_too(drafter):
    model = tiny.llama()
    alone = generate(model, PROMPT, **settings("snapkv"), **GREEDY)
    drafted = generate(model, PROMPT, drafter=drafter(), schedule=AIMD(8), **settings("snapkv"), **GREEDY)
    assert torch.equal(drafted.tokens, alone.tokens)


@pytest.mark.parametrize("name", ["expected_attention", "cap"])
def test_a_press_is_shown_no_more_hidden_states_because_a_drafter_needs_them(monkeypatch, name):
    """A press that takes means over hidden states, and a drafter whose window is longer than what is kept otherwise."""
    monkeypatch.setattr(compression_settings, "_RECENT", 12)
    model, drafting = tiny.llama(), get_press("snapkv", compression_ratio=0.2, window_size=20)
    alone = generate(model, PROMPT, **settings(name), **GREEDY)
    drafter = CompressedTarget(drafting, interval=5)
    drafted = generate(model, PROMPT, drafter=drafter, **settings(name), **GREEDY)
    assert torch.equal(drafted.tokens, alone.tokens)


@pytest.mark.parametrize("batch", [1, 2])
def test_hidden_states_are_left_for_a_window_when_tokens_are_taken_back(monkeypatch, batch):
    """In a cascade a copy is compressed with tokens of the intermediate model, which the target then refuses."""
    monkeypatch.setattr(compression_settings, "_RECENT", 12)
    inner = CompressedTarget(get_press("snapkv", compression_ratio=0.2, window_size=20), interval=1)
    model, drafter = tiny.llama(), Cascade(tiny.llama(1, seed=5), inner, gamma=2)
    drafted = generate(model, tiny.prompt(40, batch=batch), drafter=drafter, schedule=Constant(6), **GREEDY)
    assert torch.equal(drafted.tokens, generate(model, tiny.prompt(40, batch=batch), **GREEDY).tokens)


@pytest.mark.parametrize("drafter", [None, PromptLookup, lambda: CompressedTarget(example("knorm"), interval=5)])
@pytest.mark.parametrize("batch", [1, 2])
def test_hidden_states_do_not_grow_with_the_text(monkeypatch, drafter, batch):
    monkeypatch.setattr(compression_settings, "_RECENT", 12)
    press, shown = example("expected_attention"), []
    score = type(press).score

    def noted(self, module, hidden_states, *rest):
        shown.append(hidden_states.shape[1])
        return score(self, module, hidden_states, *rest)

    monkeypatch.setattr(type(press), "score", noted)
    budget = {**settings("knorm"), "press": press}
    decoding = prepare(tiny.llama(), tiny.prompt(40, batch=batch), drafter=drafter and drafter(), **budget, **GREEDY)
    decoding.run()
    assert set(shown) == {40, 12}  # the prompt, then what DecodingPress would hold
    observed = decoding.target.observations
    for rows in getattr(observed, "rows", [observed]):
        assert all(layer.hidden_states.shape[1] <= 2 * 12 + INTERVAL + 4 for layer in rows.layers)


def test_without_the_cap_on_gamma_the_output_would_differ(monkeypatch):
    """Negative control: verification blocks that run past the place of the next compression."""
    monkeypatch.setattr(Loop, "_depth", lambda loop: loop.limit - loop.length - 1)
    model, differ = tiny.llama(), 0
    for name in PRESSES:
        alone = generate(model, PROMPT, **settings(name), **GREEDY)
        drafter = DraftModel(tiny.llama(2, seed=0))
        drafted = generate(model, PROMPT, drafter=drafter, schedule=Constant(4), **settings(name), **GREEDY)
        differ += not torch.equal(drafted.tokens, alone.tokens)
    assert differ > len(PRESSES) / 2


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("name", ["snapkv", "tova", "keydiff"])
def test_rows_of_a_batch_are_what_they_are_alone(family, name):
    model, prompts = tiny.FAMILIES[family](), tiny.prompt(40, batch=3)
    together = generate(model, prompts, **settings(name), **GREEDY).tokens
    alone = [generate(model, row[None], **settings(name), **GREEDY).tokens for row in prompts]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("name", PRESSES)
def test_rows_of_a_drafted_batch_are_compressed_each_on_its_own_schedule(family, name):
    make = tiny.FAMILIES[family]
    model, prompts = make(), tiny.prompt(40, batch=3)
    alone = torch.cat([generate(model, row[None], **settings(name), **GREEDY).tokens for row in prompts])
    for verification, drafter in DRAFTERS.items():
        drafted = generate(model, prompts, drafter=drafter(make), verification=verification, **settings(name), **GREEDY)
        assert torch.equal(drafted.tokens, alone)
        assert max(iteration.slots for iteration in drafted.trace.iterations) <= BUDGET + INTERVAL


@pytest.mark.parametrize(
    "drafter",
    [
        PromptLookup,
        lambda: CompressedTarget(example("snapkv"), interval=5),
        lambda: Cascade(tiny.llama(2), CompressedTarget(example("snapkv"), interval=5), gamma=2),
    ],
)
def test_other_drafters_of_a_batch_obey_it_too(drafter):
    model, prompts = tiny.llama(), tiny.prompt(40, batch=3)
    alone = torch.cat([generate(model, row[None], **settings("snapkv"), **GREEDY).tokens for row in prompts])
    drafted = generate(model, prompts, drafter=drafter(), schedule=AIMD(8), **settings("snapkv"), **GREEDY)
    assert torch.equal(drafted.tokens, alone)


def _all_when_one_is_due(loop, rows):
    due = any(loop.compression.due(loop.target.lengths[r], loop.prompt_lengths[r]) for r in rows)
    return rows if due else []


@pytest.mark.parametrize(
    ("method", "wrong", "draft"),
    [
        ("_depth", lambda loop, r: loop.limits[r] - len(loop.contexts[r]) - 1, tiny.llama()),
        ("_due", _all_when_one_is_due, tiny.llama(1)),
    ],
    ids=["no cap on gamma", "one schedule for all rows"],
)
@pytest.mark.parametrize("name", ["snapkv", "streaming_llm"])
def test_otherwise_the_rows_of_a_batch_would_differ(monkeypatch, name, method, wrong, draft):
    """Negative control."""
    model, prompts = tiny.llama(), tiny.prompt(40, batch=3)
    alone = torch.cat([generate(model, row[None], **settings(name), **GREEDY).tokens for row in prompts])
    monkeypatch.setattr(BatchLoop, method, wrong)
    drafted = generate(model, prompts, drafter=DraftModel(draft), **settings(name), **GREEDY)
    assert not torch.equal(drafted.tokens, alone)


def test_after_the_prompt_the_smaller_of_ratio_and_budget_counts_and_later_the_budget_alone():
    model = tiny.llama()
    for ratio, slots in ((0.0, 22), (0.25, 22), (0.75, 10)):
        trace = generate(model, PROMPT, **settings("knorm", ratio), **GREEDY).trace
        assert trace.iterations[0].slots == slots + 1
        assert max(iteration.slots for iteration in trace.iterations[-8:]) == 22 + 7
    assert trace.layer_slots == [trace.iterations[-1].slots] * 2
    assert sum(trace.layer_kv_bytes) == trace.kv_bytes == 2 * 2 * 2 * 8 * 4 * trace.layer_slots[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"compression_interval": 8}, "compression_interval is for compression while decoding: give cache_budget"),
        ({"cache_budget": 8}, "cache_budget needs a press"),
        ({"press": "streaming_llm", "cache_budget": 4}, "more than the 4 slots that StreamingLLMPress always keeps"),
        ({"press": "snapkv", "cache_budget": 50}, "more than the 64 slots that SnapKVPress always keeps"),
        ({"press": "knorm", "cache_budget": 9, "compression_interval": 0}, "compression_interval must be at least 1"),
        ({"press": "compactor", "cache_budget": 20}, "CompactorPress cannot compress while decoding: it scores from"),
        ({"press": "pyramidkv", "cache_budget": 20}, "cannot compress while decoding: it keeps different"),
        ({"press": {"name": "adakv", "press": "knorm"}, "cache_budget": 20}, "cannot compress while decoding"),
        ({"press": {"name": "criticalkv", "press": "compactor"}, "cache_budget": 20}, "cannot compress while decoding"),
    ],
)
def test_impossible_settings_are_refused(arguments, said):
    press = arguments.get("press")
    if press:
        arguments["press"] = get_press(**({"name": press} if isinstance(press, str) else press))
    with pytest.raises(ValueError, match=said):
        Compression(**arguments)


def test_refused_presses_of_kvpress_itself_are_refused_too():
    import kvpress

    with pytest.raises(ValueError, match="DecodingPress cannot run here: it compresses inside the forward"):
        generate(tiny.llama(), PROMPT, max_new_tokens=2, press=kvpress.DecodingPress(kvpress.KnormPress()))


def test_a_prompt_shorter_than_the_window_is_refused():
    press = get_press("snapkv", compression_ratio=0.5)
    with pytest.raises(ValueError, match="a prompt of 40 tokens is too short for it; give at least 65 tokens"):
        generate(tiny.llama(), PROMPT, max_new_tokens=2, press=press)
    with pytest.raises(ValueError, match="a prompt of 40 tokens is too short for it"):
        perplexity(tiny.llama(), tiny.prompt(60), context=40, press=press)


@pytest.mark.parametrize("name", ["snapkv", "hybrid", "think"])
def test_a_ratio_that_leaves_less_than_always_stays_is_refused(name):
    """Hybrid and ThinK look at a window, which they need not keep."""
    press = example(name, 0.75)
    stays = {"snapkv": 8, "hybrid": 8, "think": 0}[name]
    for tokens, fits in ((40, stays < 10), (32, stays < 8)):
        if fits:
            generate(tiny.llama(), tiny.prompt(tokens), max_new_tokens=2, press=press)
        else:
            with pytest.raises(
                ValueError, match=f"always keeps {stays} slots .* at a ratio of 0.75 8 of 32 are to stay"
            ):
                generate(tiny.llama(), tiny.prompt(tokens), max_new_tokens=2, press=press)


def test_rounds_tell_drafting_and_compressing_apart():
    options = {**settings("knorm"), **GREEDY, "drafter": PromptLookup()}
    rounds = generate(tiny.llama(), PROMPT, **options).trace.iterations
    compressed = [each.compress_seconds > 0 for each in rounds]
    assert 0 < sum(compressed) < len(rounds)
    for each in rounds:
        assert each.verify_seconds > 0
        assert each.seconds == pytest.approx(each.draft_seconds + each.compress_seconds + each.verify_seconds)


def test_a_press_for_the_prompt_alone_cannot_refresh_a_draft():
    with pytest.raises(ValueError, match="CompactorPress cannot compress while decoding"):
        CompressedTarget(get_press("compactor"), interval=3)
