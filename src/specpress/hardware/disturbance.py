"""What disturbed a job: waiting for a core, being taken off one, and how busy everything else kept the machine.

Read over an interval from the operating system, which counts it anyway; nothing runs meanwhile.
"""

import resource
import statistics
import time
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

SLOW = 1.5  # a step is disturbed if it takes this many times the undisturbed one
_UNDISTURBED = 0.1  # the quantile of a job's steps that stands for the undisturbed one
_FEWEST = 10  # steps, for a quantile that low
_TASKS = Path("/proc/self/task")


@contextmanager
def watch():
    """Watch the machine while the block runs: gives a `Watch`, whose `record` to ask for once the block is left."""
    watched = Watch()
    try:
        yield watched
    finally:
        watched.stop()


class Watch:
    """The counters of this process and of the machine, from when it is made until `stop`."""

    def __init__(self):
        self._before = _Counters()
        self._after: _Counters | None = None

    def stop(self) -> None:
        """End the interval."""
        self._after = _Counters()

    def record(self, steps: dict | None = None) -> dict:
        """The record of the interval, for JSON; what this system does not tell is None, and `why` says so.

        Parameters
        ----------
        steps : what `disturbed_steps` made of the job's baseline steps; None where it has none

        Returns
        -------
        dict: seconds; own_cores, other_cores and steal_cores (cores kept busy on average by this process, by everything
        else, by other guests of the host); wait_s (seconds in which this process's threads were ready to run and had no
        core, summed over threads; those of a thread that has ended are lost); involuntary_switches (times a thread was
        taken off its core); load_average (over a minute, at the end); disturbed_steps; why.
        """
        before, after = self._before, self._after or _Counters()
        seconds = max(after.clock - before.clock, 1e-9)
        own, busy = (after.own - before.own) / seconds, (after.busy - before.busy) / seconds
        steal = None if after.steal is None else max(0.0, after.steal - before.steal) / seconds
        return {
            "seconds": seconds,
            "own_cores": own,
            "other_cores": max(0.0, busy - own),  # the machine's counters tick in hundredths of a second
            "steal_cores": steal,
            "wait_s": _waited(before.waits, after.waits),
            "involuntary_switches": after.switches - before.switches,
            "load_average": psutil.getloadavg()[0],
            "disturbed_steps": steps or {"share": None, "steps": 0, "why": "no baseline step was timed"},
            "why": None if after.waits is not None else "this system does not count the waits of threads (schedstat)",
        }


def disturbed_steps(groups: Iterable[Sequence[float]]) -> dict:
    """The share of steps that took `SLOW` times as long as the undisturbed steps of their group.

    Parameters
    ----------
    groups : seconds of steps that do the same work, such as the baseline's at one length, group by group

    Returns
    -------
    dict: share, steps (how many were looked at); share is None, with `why`, where no group has enough of them.
    """
    slow, looked_at = 0, 0
    for group in groups:
        if len(group) < _FEWEST:
            continue
        undisturbed = statistics.quantiles(group, n=round(1 / _UNDISTURBED))[0]
        slow += sum(seconds > SLOW * undisturbed for seconds in group)
        looked_at += len(group)
    if not looked_at:
        return {"share": None, "steps": 0, "why": f"fewer than {_FEWEST} steps of a kind"}
    return {"share": slow / looked_at, "steps": looked_at, "why": None}


class _Counters:
    """What the system has counted by now."""

    def __init__(self):
        self.clock = time.perf_counter()
        machine, usage = psutil.cpu_times(), resource.getrusage(resource.RUSAGE_SELF)
        kinds = ("user", "nice", "system", "irq", "softirq")  # user holds guest
        self.busy = sum(getattr(machine, kind, 0.0) for kind in kinds)
        self.steal: float | None = getattr(machine, "steal", None)
        self.own = usage.ru_utime + usage.ru_stime
        self.switches = usage.ru_nivcsw
        self.waits = _waits()


def _waits() -> dict[str, int] | None:
    """Nanoseconds that each thread of this process has waited for a core so far; None where the system does not say."""
    waits = {}
    try:
        for task in _TASKS.iterdir():
            try:
                waits[task.name] = int((task / "schedstat").read_text().split()[1])
            except (FileNotFoundError, ProcessLookupError):  # the thread has just ended, or nothing is counted
                continue
    except (OSError, IndexError, ValueError):
        return None
    return waits or None


def _waited(before: dict[str, int] | None, after: dict[str, int] | None) -> float | None:
    if before is None or after is None:
        return None
    return 1e-9 * sum(waited - before.get(thread, 0) for thread, waited in after.items())
