"""What the machine did and put in doubt, as the paper says it."""

import pytest
import synthetic

from specpress.analysis.tables import summary
from specpress.paper.cells import Cell
from specpress.paper.disturbance import disturbance, doubts, imprecise


def table_of(*metrics):
    return summary([item | {"file": f"{item['id']}.json"} for item in metrics])


def cell(low, high):
    estimate = {
        "estimate": (low + high) / 2,
        "low": low,
        "high": high,
        "n": 8,
        "note": "",
        "file": "",
        "field": "",
        "reference": "",
    }
    return Cell.of({"experiment": "control", "kind": "speed", "metric": "speedup", **estimate})


def busy(name, cores, share):
    made = synthetic.speed(name)
    steps = {"share": share, "steps": 400, "why": None}
    made["disturbance"] |= {"other_cores": cores, "disturbed_steps": steps}
    return made


def test_the_middle_and_the_most_disturbed_experiment_are_named():
    found = disturbance(table_of(busy("a", 0.03, 0.01), busy("b", 1.25, 0.35), busy("c", 0.1, 0.02)))
    assert [cell.text for cell in found["other_cores"]] == ["0.10", "1.25"]
    assert [cell.text for cell in found["disturbed_steps"]] == ["2%", "35%"]


def test_what_was_not_recorded_is_not_said():
    made = synthetic.speed("a")
    del made["disturbance"]
    table = table_of(made)
    assert disturbance(table) == {}
    assert set(table[table.metric == "other_cores"].note) == {"not recorded"}


def test_a_machine_that_left_no_doubt_is_not_mentioned():
    assert doubts(table_of(synthetic.speed("a")), [cell(0.98, 1.02)]) == ""


def test_a_control_that_misses_one_is_said():
    said = doubts(table_of(synthetic.speed("a")), [cell(0.9, 0.95)])
    assert said.endswith("the interval of the control, the baseline timed against itself, does not contain one.")
    assert "the interval of 1 of 2 controls" in doubts(
        table_of(synthetic.speed("a")), [cell(0.9, 0.95), cell(0.9, 1.1)]
    )


@pytest.mark.parametrize(
    ("metric", "disturbed", "quiet"),
    [("other_cores", 0.2, 0.02), ("steal_cores", 0.2, 0.0), ("core_waits", 0.2, 0.03), ("disturbed_steps", 0.6, 0.4)],
)
def test_a_machine_that_did_nothing_else_is_not_to_blame_for_a_small_budget(metric, disturbed, quiet):
    wide = synthetic.speed("wide")
    wide["ended"] |= {"by": "budget", "half_width": 0.2, "precision": 0.05}
    table = table_of(wide)
    table.loc[table.metric == "speedup", "machine_share"] = 1.0
    for value, blamed in ((disturbed, 1), (quiet, 0)):
        table.loc[table.metric == metric, "estimate"] = value
        assert imprecise(table) == (blamed, 1)
        assert bool(doubts(table, [])) == bool(blamed)


def test_a_precision_that_the_machine_kept_from_being_reached_is_said():
    wide = busy("wide", 1.0, 0.4)
    wide["ended"] |= {"by": "budget", "half_width": 0.2, "precision": 0.05}
    table = table_of(synthetic.speed("fine"), wide)
    share = (table.experiment == "wide") & (table.metric == "speedup")
    table.loc[share, "machine_share"] = 0.9
    assert imprecise(table) == (1, 2)
    assert "1 of 2 experiments did not reach the precision asked for" in doubts(table, [])
    table.loc[share, "machine_share"] = 0.1  # the text varies: the machine is not to blame
    assert imprecise(table) == (0, 2)
