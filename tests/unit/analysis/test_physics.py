"""The most that traffic and counts allow: by hand for small cases, and a mark where a measurement lies above it."""

import pytest
import synthetic

from specpress.analysis.physics import with_most
from specpress.analysis.tables import summary
from specpress.theory.parts import DRAFTING, VERIFICATION

TARGET = {"step_weight_bytes": 200e6, "kv_bytes_per_token": 20_000, "flops_per_token": 2e8, "layers": 10}
DRAFT = {"step_weight_bytes": 20e6, "kv_bytes_per_token": 2_000, "flops_per_token": 2e7, "layers": 1}
SHAPES = {"target": TARGET, "draft": DRAFT}
MACHINE = synthetic.machine() | {
    "weight_gb_s_by_rows": {"1": 20.0}, "kv_gb_s_by_queries": {"1": 10.0}, "step_overhead_ms": 1.0,
}  # fmt: skip
FULL = 1000.0  # slots: a prompt of 950 tokens and half of 100 new ones


def step_ms(slots, share=1.0):
    return share * (1.0 + 200e6 / 20e9 * 1e3) + share * slots * 20_000 / 10e9 * 1e3


def experiment(rounds, **spec):
    run = {"prompt_tokens": 950, "tokens": 100, "rounds": rounds, "method": {"kv_bytes": 0.25 * FULL * 20_000}}
    return {"id": "x", "kind": "speed", "spec": {"model": "target", "baseline": "target", **spec}, "runs": [run]}


def most(item, low=1.0, estimate=1.0, **row):
    rows = [{"metric": "speedup", "estimate": estimate, "low": low, **row}]
    found = {row["metric"]: row for row in with_most(item, rows, SHAPES, MACHINE)}
    return found["speedup_most"]["estimate"], found["speedup_above"]["estimate"], found["speedup"]["note"]


def test_a_draft_costs_its_own_traffic_and_a_verification_one_step():
    spec = {"drafter": {"name": "draft_model", "model": "draft"}}
    value, _, _ = most(experiment([[DRAFTING, 4, 40], [VERIFICATION, 5, 40]], **spec))
    assert value == pytest.approx(100 / 40 / (1 + 4 * 0.1))


def test_a_draft_that_branches_is_charged_a_pass_for_its_children_together():
    spec = {"drafter": {"name": "draft_model", "model": "draft", "children": 2}}
    value, _, _ = most(experiment([[DRAFTING, 4, 40], [VERIFICATION, 5, 40]], **spec))
    assert value == pytest.approx(100 / 40 / (1 + 2 * 0.1))


@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 16), ("float32", 32)])
def test_a_quantised_copy_is_as_much_smaller_as_its_targets_numbers_are_long(monkeypatch, dtype, bits):
    monkeypatch.setitem(SHAPES, "target", TARGET | {"dtype": dtype})
    spec = {"drafter": {"name": "quantized_target", "bits": 4}}
    value, _, _ = most(experiment([[DRAFTING, 2, 40], [VERIFICATION, 3, 40]], **spec))
    assert value == pytest.approx(100 / 40 / (1 + 2 * 5 / bits))


def test_what_is_looked_up_costs_nothing_and_the_draft_alone_its_share():
    value, _, _ = most(experiment([[DRAFTING, 4, 50], [VERIFICATION, 5, 50]], drafter={"name": "prompt_lookup"}))
    assert value == pytest.approx(2)
    value, _, _ = most(experiment([[VERIFICATION, 1, 100]], model="draft"))
    assert value == pytest.approx(10)


def test_a_press_saves_the_reading_of_what_it_removed():
    value, _, _ = most(experiment([[VERIFICATION, 1, 100]], press={"name": "knorm", "compression_ratio": 0.75}))
    assert value == pytest.approx(step_ms(FULL) / step_ms(0.25 * FULL - 50))  # half of the text later than the mean


def test_under_a_budget_a_cache_does_not_grow_with_the_text():
    press = {"press": {"name": "knorm", "compression_ratio": 0.75}, "cache_budget": FULL // 4}
    value, _, _ = most(experiment([[VERIFICATION, 1, 100]], **press))
    assert value == pytest.approx(step_ms(FULL) / step_ms(0.25 * FULL))


def test_fewer_rows_are_taken_to_be_read_as_fast_as_more(monkeypatch):
    item = experiment([[VERIFICATION, 1, 100]], press={"name": "knorm", "compression_ratio": 0.75})
    usual, _, _ = most(item)
    slow_alone = {"1": 5.0, "2": 20.0, "40": 10.0}  # one row in a bad minute of the machine
    monkeypatch.setitem(MACHINE, "weight_gb_s_by_rows", slow_alone)
    assert most(item)[0] == pytest.approx(usual)
    monkeypatch.setitem(MACHINE, "weight_gb_s_by_rows", {"1": 20.0, "2": 5.0})  # more rows may take longer
    assert most(item)[0] == pytest.approx(usual)


def test_a_cache_is_taken_to_be_read_at_the_lowest_rate_measured(monkeypatch):
    item = experiment([[VERIFICATION, 1, 100]], press={"name": "knorm", "compression_ratio": 0.75})
    monkeypatch.setitem(MACHINE, "kv_gb_s_alone", {"512": 5.0, "2048": 20.0})  # few heads, which threads share badly
    slow = [1.0 + 10.0 + slots * 20_000 / 5e9 * 1e3 for slots in (FULL, 0.25 * FULL - 50)]
    assert most(item)[0] == pytest.approx(slow[0] / slow[1])


def test_weights_in_fewer_bits_may_be_read_as_fast_as_memory_is_copied(monkeypatch):
    monkeypatch.setitem(SHAPES, "q4", TARGET | {"step_weight_bytes": 60e6, "weights": "q4"})
    copied = 1.0 + 60e6 / 60e9 * 1e3 + FULL * 20_000 / 10e9 * 1e3
    assert most(experiment([[VERIFICATION, 1, 100]], model="q4"))[0] == pytest.approx(step_ms(FULL) / copied)


@pytest.mark.parametrize(("low", "above"), [(1.99, 0.0), (2.01, 1.0)])
def test_only_what_lies_above_by_more_than_its_interval_is_marked(low, above):
    item = experiment([[DRAFTING, 4, 50], [VERIFICATION, 5, 50]], drafter={"name": "prompt_lookup"})
    _, marked, note = most(item, low=low, estimate=2.2)
    assert marked == above
    assert ("above the 2.00 that traffic and counts allow" in note) == bool(above)


def test_without_rates_or_shapes_there_is_a_reason():
    item = experiment([[VERIFICATION, 1, 100]])
    rows = [{"metric": "speedup", "estimate": 1.0, "low": 0.9}]
    (_, unknown, _) = with_most(item, rows, SHAPES, None)
    assert unknown["note"] == "the machine's rates were not measured"
    (_, unknown, _) = with_most(item, rows, {}, MACHINE)
    assert "does not give its shape" in unknown["note"]


def test_every_speedup_of_a_study_stands_beside_its_most():
    shapes = dict.fromkeys(("target", "intermediate"), SHAPES["target"]) | {"draft": DRAFT}
    table = summary([item | {"file": f"{item['id']}.json"} for item in synthetic.whole_study()], shapes)
    measured = table[table.metric.isin(["speedup", "press_speedup", "step_speedup"]) & table.estimate.notna()]
    beside = table[table.metric.isin(["speedup_most", "press_speedup_most", "step_speedup_most"])]
    assert len(measured) == len(beside) > 20
    assert beside.estimate.notna().all()
