"""Rows of what disturbed a job; see `specpress.hardware.disturbance`."""

from collections.abc import Iterable, Mapping

from specpress.analysis.rows import single


def rows(item: Mapping) -> Iterable[dict]:
    """Cores that everything else and other guests used, waits as a share of the job, the share of disturbed steps."""
    found = item.get("disturbance") or {}
    steps = found.get("disturbed_steps") or {}
    waits = found["wait_s"] / found["seconds"] if found.get("wait_s") is not None else None
    unknown = "not recorded"
    yield single("other_cores", "cores", found.get("other_cores"), "disturbance.other_cores", unknown)
    yield single("steal_cores", "cores", found.get("steal_cores"), "disturbance.steal_cores", unknown)
    yield single("core_waits", "", waits, "disturbance: wait_s / seconds", found.get("why") or unknown)
    field = "disturbance.disturbed_steps.share"
    yield single("disturbed_steps", "", steps.get("share"), field, steps.get("why") or unknown)
