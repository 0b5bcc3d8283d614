"""The profile of a round: its parts add up to the whole, each less what it calls, and nothing stays patched."""

import time

import pytest
import tiny
from benchmark_scripts import benchmark

from specpress.engine.cached_model import CachedModel


@pytest.fixture(scope="module")
def rounds():
    return benchmark("rounds")


def test_forwards_are_told_from_what_lies_between_them(rounds, monkeypatch):
    """A clock that only forwards and drafting move: a second for the target, an eighth for the draft, half to draft."""
    now, target, draft = [0.0], tiny.llama(2, seed=1), tiny.llama(1, seed=1)
    feed, propose = CachedModel.feed, rounds.DraftModel.propose

    def timed_feed(cached, *args, **kwargs):
        now[0] += 1.0 if cached.model is target else 0.125
        return feed(cached, *args, **kwargs)

    def timed_propose(drafter, *args):
        now[0] += 0.5
        return propose(drafter, *args)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(CachedModel, "feed", timed_feed)
    monkeypatch.setattr(rounds.DraftModel, "propose", timed_propose)
    plain, path, *others = rounds.profile(target, draft, [tiny.prompt(12, seed=i) for i in range(2)], new=9)
    assert {part: ms for part, ms in plain["milliseconds"].items() if ms} == {rounds.TARGET: 1e3}
    spent = {part: ms for part, ms in path["milliseconds"].items() if ms}
    assert set(spent) == {rounds.TARGET, rounds.DRAFT, "drafting beside its forwards"}
    assert spent[rounds.TARGET] == 1e3
    assert 0 < spent["drafting beside its forwards"] <= 500
    assert 125 <= spent[rounds.DRAFT] <= 3 * 125
    assert all(row["milliseconds"][rounds.TARGET] == 1e3 for row in others)
    assert CachedModel.feed is timed_feed
    lines = list(rounds.told([plain, path, *others]))
    assert lines[0].startswith("plain, sampled, 8 rounds: 0.00 ms outside forwards, 0.0% of a step")
