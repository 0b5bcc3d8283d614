"""Intervals of the summary as something to print."""

import pytest

from specpress.paper.cells import Cell

ROW = {
    **{
        "experiment": "a",
        "kind": "perplexity",
        "ratio": 0.7,
        "mode": "once",
        "n": 3,
        "note": "",
        "file": "",
        "field": "",
    },
    **{"reference": "", "estimate": 0.93, "low": 0.88, "high": 1.02},
    **{"machine_share": None, "log_error": 0.02, "error": None, "freedom": 2, "skew": 0.0},
}


def test_every_category_has_a_name_of_its_own_that_tex_can_read():
    row = {**ROW, "metric": "category_speedup", "kind": "speed", "ratio": None}
    categories = ["数学", "写作", "Q&A", "Q/A", "a b", "a-b", "a_b", "math"]
    keys = [Cell.of({**row, "category": category}).key for category in categories]
    assert len(set(keys)) == len(keys)
    assert all(key.isascii() and not set(key) & set("&#%$\\{}~^ ") for key in keys)
    assert keys[-1] == "a@math"


@pytest.mark.parametrize(("metric", "ends_at_one"), [("acceptance", True), ("relative_ppl", False)])
def test_no_interval_goes_where_no_value_can_be(metric, ends_at_one):
    cell = Cell.of({**ROW, "metric": metric})
    assert (cell.high == 1) == ends_at_one
    several = cell.among(3)
    assert several.low < cell.low
    assert (several.high == 1) == ends_at_one
