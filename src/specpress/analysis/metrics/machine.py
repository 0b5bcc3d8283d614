"""Rows of the machine's rates, measured once: what the roofline predictions stand on."""

from collections.abc import Iterable, Mapping

from specpress.analysis.rows import single

RATES = {"copy_gb_s": "GB/s", "weight_gb_s": "GB/s", "kv_gb_s": "GB/s", "gflops": "GFLOP/s", "step_overhead_ms": "ms"}


def observations(item: Mapping) -> Iterable[dict]:
    """None: the rates are single numbers."""
    return ()


def summary(item: Mapping) -> Iterable[dict]:
    """One row a rate."""
    for metric, unit in RATES.items():
        yield single(metric, unit, item.get(metric), metric, "not measured")
