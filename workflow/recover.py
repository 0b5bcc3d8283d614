"""Make the directory ready after a run that was killed, or a clock that was set back.

A lock is only removed when no snakemake works here. Jobs left running are ended; they are recognised by SPECPRESS_RUN,
which the workflow sets to the process ID of the snakemake that started them. Files whose time is still to come lose it:
whatever a job makes from them now is older, which snakemake takes for a failure.
"""

import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

HERE = Path.cwd().resolve()
RUNS_ON = Path(".snakemake/runs-on")  # the host of the last run: Snakefile


def works_here(process: psutil.Process) -> bool:
    """Whether a process has this directory as its working directory."""
    try:
        return Path(process.cwd()).resolve() == HERE
    except (psutil.Error, OSError):
        return False


def is_snakemake(process: psutil.Process) -> bool:
    """Whether a process is a snakemake, started as `snakemake ...` or `python -m snakemake ...`."""
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return any(Path(part).name == "snakemake" for part in command[:3])


def is_left_behind(process: psutil.Process) -> bool:
    """Whether a process is a job whose snakemake is gone."""
    try:
        run = process.environ().get("SPECPRESS_RUN", "")
    except psutil.Error:
        return False
    return run.isdigit() and not (psutil.pid_exists(int(run)) and is_snakemake(psutil.Process(int(run))))


def from_the_future() -> list[Path]:
    """Files of this directory, but not of its hidden folders, with a time later than now."""
    now, found = time.time(), []
    for folder, inner, names in os.walk("."):
        inner[:] = [name for name in inner if not name.startswith(".")]
        paths = (Path(folder, name) for name in names)
        found += [path for path in paths if path.is_file() and path.stat().st_mtime > now]
    return found


def main() -> None:
    """End left-over jobs, remove a stale lock and times to come; stop with a message when a snakemake is at work."""
    locks = list(Path(".snakemake/locks").glob("*"))
    here = [process for process in psutil.process_iter() if process.pid != os.getpid() and works_here(process)]
    running = [process.pid for process in here if is_snakemake(process)]
    host = RUNS_ON.read_text(encoding="utf-8").strip() if RUNS_ON.is_file() else ""
    if locks and not running and host not in ("", platform.node()):
        sys.exit(
            f"snakemake holds the lock of this directory since it ran on {host}. If it still works there, wait for it; "
            f"if that machine is gone, remove {RUNS_ON} and run the same command again"
        )
    if running and locks:
        sys.exit(
            f"snakemake is already at work in this directory (process {running[0]}). "
            f"Wait for it, or stop it with: kill -INT {running[0]}"
        )
    orphans = [process for process in here if is_left_behind(process)]
    for process in orphans:
        print(f"Ending a job that an interrupted run left behind (process {process.pid})", flush=True)
        with suppress(psutil.NoSuchProcess):  # the end of one ends another
            process.terminate()
    for process in psutil.wait_procs(orphans, timeout=10)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if locks:
        print("Removing the lock of an interrupted run; it goes on where it stopped", flush=True)
        unlock = [sys.executable, "-m", "snakemake", "--unlock", "--quiet", *sys.argv[1:]]
        if status := subprocess.run(unlock, check=False).returncode:
            sys.exit(status)
    if ahead := from_the_future():
        print(f"The clock was set back: {len(ahead)} files from later lose their time, contents decide", flush=True)
        for path in ahead:
            os.utime(path, (1, 1))  # zero is no time to snakemake


if __name__ == "__main__":
    main()
