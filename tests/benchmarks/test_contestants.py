"""The contestants of the benchmarks take the same step again and again; a duel compares neighbours."""

from itertools import cycle
from pathlib import Path

import pytest
import tiny
import torch
from benchmark_scripts import benchmark


@pytest.fixture(scope="module")
def contestants():
    return benchmark("contestants")


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_both_take_the_same_step_however_often(contestants, family):
    model, prompt = tiny.FAMILIES[family](), tiny.prompt(12, batch=2)
    before = model.config._attn_implementation
    ours, theirs = contestants.ours(model, prompt), contestants.transformers_step(model, prompt)
    first = ours()
    for step in (theirs, ours, theirs):
        torch.testing.assert_close(step(), first, atol=2e-5, rtol=1e-4)
    assert model.config._attn_implementation == before


def test_a_duel_is_the_median_over_neighbours(contestants, monkeypatch):
    """A machine that slows down for half of the pairs slows both: the ratio stays."""
    now, slow = [0.0], cycle([1.0] * 7 + [9.0] * 7)

    def step(seconds):
        def take():
            now[0] += seconds * pace[0]

        return take

    pace = [1.0]
    turns = []

    def turn(name, inner):
        def take():
            if len(turns) % 2 == 0:
                pace[0] = next(slow)
            turns.append(name)
            inner()

        return take

    monkeypatch.setattr(contestants.time, "perf_counter", lambda: now[0])
    row = contestants.duel("b over a", turn("a", step(2.0)), turn("b", step(3.0)), "<= 2", pairs=12)
    assert row["ratio"] == pytest.approx(1.5)
    assert row["ends"] == pytest.approx([1.5, 1.5])
    assert turns[:4] in (["b", "a", "a", "b"], ["a", "b", "b", "a"])
    assert len(turns) == 28


def test_the_rate_of_attention_is_its_bytes_over_the_seconds_of_a_step(contestants, monkeypatch):
    model, now, seen = tiny.llama(3), [0.0], []

    def attend(module, query, key, value, mask):
        seen.append((query.shape[2], key.shape[2]))
        now[0] += 1e-6

    monkeypatch.setattr(contestants, "grouped_attention", attend)
    monkeypatch.setattr(contestants, "COPIED", 4096)
    monkeypatch.setattr(contestants.time, "perf_counter", lambda: now[0])
    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "copy_", lambda self, other: now.__setitem__(0, now[0] + 1e-3))
        row = contestants.attention_rate(model, 40, passes=8)
    heads, size = model.config.num_key_value_heads, model.config.head_dim
    assert row["ratio"] == pytest.approx(1e-9 * 2 * 4 * heads * 40 * size / 1e-6)
    assert set(seen) == {(1, 40)}
    assert row["goal"] == ">= 0.0"


def test_llama_cpp_stays_away_where_it_is_not_installed(contestants, monkeypatch):
    monkeypatch.setattr(contestants, "find_spec", lambda name: None)
    assert contestants.llama_cpp(Path("model.gguf"), tiny.prompt(3), 2) is None
