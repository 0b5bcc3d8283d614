"""Rows of a model's rounding errors: what may explain that a greedy text differs from the baseline's."""

import statistics
from collections.abc import Iterable, Mapping

from specpress.analysis.rows import single


def observations(item: Mapping) -> Iterable[dict]:
    """None: the errors stay in the record."""
    return ()


def summary(item: Mapping) -> Iterable[dict]:
    """The largest error, which is what is allowed, the median one, and how many rows they rest on."""
    errors = [error for found in item["errors"].values() for error in found]
    why = "not measured"
    yield single("rounding_allowed", "", item["allowed"], "allowed", why)
    yield single("rounding_median", "", statistics.median(errors), "median of errors", why)
    yield single("rounding_rows", "rows", len(errors), "errors", why)
