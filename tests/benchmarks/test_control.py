"""The load beside a control ends with it."""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTROL = """
import multiprocessing, time
import control
with control.load(0.01):
    (load,) = multiprocessing.active_children()
    print(load.pid, flush=True)
    time.sleep(60)
"""


def test_a_load_does_not_outlive_a_control_that_is_killed():
    """It would take its share of a core, a whole one at times, for as long as the machine is on."""
    folders = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": folders}
    with subprocess.Popen(
        [sys.executable, "-c", CONTROL], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        load = int(process.stdout.readline())
        assert _runs(load)
        process.kill()
    deadline = time.monotonic() + 60
    while _runs(load) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _runs(load)


def _runs(process: int) -> bool:
    """Whether there is such a process, one that has ended and waits to be seen aside."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
