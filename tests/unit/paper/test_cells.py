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


@pytest.mark.parametrize(("metric", "ends_at_one"), [("acceptance", True), ("relative_ppl", False)])
def test_no_interval_goes_where_no_value_can_be(metric, ends_at_one):
    cell = Cell.of({**ROW, "metric": metric})
    assert (cell.high == 1) == ends_at_one
    several = cell.among(3)
    assert several.low < cell.low
    assert (several.high == 1) == ends_at_one
