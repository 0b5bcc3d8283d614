"""Disturbance of a job: what the system counts over an interval, and the share of slow steps."""

import multiprocessing
import os
import time
from types import SimpleNamespace

import pytest

from specpress.hardware import disturbance
from specpress.hardware.disturbance import disturbed_steps, watch

HERE = pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="the system counts no waits")


def spin(seconds: float) -> None:
    """Use a core for some seconds of its time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_own_work_is_not_counted_as_that_of_others():
    with watch() as watched:
        spin(0.5)
    record = watched.record()
    assert record["own_cores"] * record["seconds"] == pytest.approx(0.5, abs=0.1)
    assert record["involuntary_switches"] >= 0
    assert record["load_average"] >= 0


@HERE
def test_another_process_is_seen():
    """Another one burns 0.6 s of a core: at least that is counted as others', whatever else runs."""
    other = multiprocessing.get_context("fork").Process(target=spin, args=(0.6,))
    with watch() as watched:
        other.start()
        other.join()
    record = watched.record()
    assert record["other_cores"] * record["seconds"] > 0.4


@HERE
def test_threads_that_share_one_core_wait_for_it():
    cores = os.sched_getaffinity(0)
    other = multiprocessing.get_context("fork").Process(target=spin, args=(30,))
    os.sched_setaffinity(0, {min(cores)})
    try:
        other.start()  # on the same core
        with watch() as watched:
            spin(0.3)
    finally:
        other.kill()
        other.join()
        os.sched_setaffinity(0, cores)
    record = watched.record()
    assert record["wait_s"] > 0.1
    assert record["involuntary_switches"] > 0


def test_a_system_that_does_not_count_waits_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(disturbance, "_TASKS", tmp_path / "none")
    monkeypatch.setattr(disturbance.psutil, "cpu_times", lambda: SimpleNamespace(user=1.0, system=1.0, idle=5.0))
    with watch() as watched:
        pass
    record = watched.record()
    assert record["wait_s"] is None is record["steal_cores"]
    assert "schedstat" in record["why"]
    assert record["involuntary_switches"] is not None


def test_disturbed_steps_are_those_far_above_the_undisturbed_of_their_kind():
    short, long = [1.0] * 18 + [1.4, 1.6], [4.0] * 19 + [30.0]
    assert disturbed_steps([short]) == {"share": 1 / 20, "steps": 20, "why": None}
    assert disturbed_steps([short, long])["share"] == 2 / 40
    assert disturbed_steps([short + long])["share"] > 0.4  # of different kinds: not to be put together
    few = disturbed_steps([[1.0] * 9, []])
    assert few["share"] is None
    assert "fewer than 10" in few["why"]


def test_a_job_without_baseline_steps_says_so():
    with watch() as watched:
        pass
    assert watched.record()["disturbed_steps"]["why"] == "no baseline step was timed"
    assert watched.record(disturbed_steps([[1.0] * 10]))["disturbed_steps"]["share"] == 0
