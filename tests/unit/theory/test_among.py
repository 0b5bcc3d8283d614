"""An interval of one of many that were looked at, and when there is none."""

from specpress.analysis.statistics import geometric_mean_interval
from specpress.theory.intervals import among


def test_an_interval_that_would_say_nothing_is_none_with_its_reason():
    estimate = geometric_mean_interval([-0.3, 0.1, 0.5])
    assert estimate.low is not None
    picked = among(estimate, 20)
    assert (picked.low, picked.high) == (None, None)
    assert "too few units for an interval of one of 20" in picked.note
    many = among(geometric_mean_interval([-0.3, 0.1, 0.5] * 10), 20)
    assert many.low < many.value < many.high
