"""The environment a measurement was made in, as every metrics file records it. No host or user name."""

import os
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("specpress", "torch", "transformers", "kvpress", "numpy", "tokenizers", "safetensors")
# How OpenMP's threads wait for each other, and where they run, as far as one can ask for it: variables of the standard
# and of the two libraries (docs/disturbance.md has what each costs).
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_PROC_BIND", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


def describe(*, threads: int, device, dtype, cuda_graphs: bool = False) -> dict:
    """Hardware, versions and settings: plain JSON values, null where the machine does not tell.

    Parameters
    ----------
    threads : int, torch's
    device : torch.device or str; recorded is its kind, for a GPU beside its name: which of several equal ones does not
        make another machine
    dtype : torch.dtype or str
    cuda_graphs : whether decoding steps ran as graphs
    """
    import psutil
    import torch

    from specpress.hardware.devices import settings

    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "waiting": waiting(),
        "memory_bytes": psutil.virtual_memory().total,
        "device": torch.device(device).type,
        "accelerator": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else None,
        "dtype": str(dtype).removeprefix("torch."),
        "settings": settings(cuda_graphs),
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
    }


def waiting() -> str:
    """How threads wait for each other: what was asked for, or "default", which is the library's."""
    asked = [f"{name}={os.environ[name]}" for name in _WAITING if name in os.environ]
    return ", ".join(asked) or "default"


def now() -> str:
    """The time by the machine's clock, in UTC, ISO 8601: when something began, never how long it took."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def peak_memory_bytes(device: str = "cpu") -> int:
    """The most memory this process has had so far: allocated on a CUDA device, resident in memory on another."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the code that runs, with "+changes" when it differs; None where git does not know this file.

    A file may lie inside a checkout that does not hold it, as an installed copy in a virtual environment does.
    """
    package = Path(__file__).resolve().parents[1]
    commands = (
        ["rev-parse", "--short", "HEAD"],
        ["ls-files", "--error-unmatch", __file__],
        ["status", "--porcelain", "-uno"],
        ["ls-files", "--others", "--exclude-standard", str(package)],
    )
    try:
        asked = [subprocess.run(["git", *c], cwd=package, capture_output=True, text=True) for c in commands]
    except OSError:
        return None
    if any(answer.returncode for answer in asked):
        return None
    commit, _, changed, new = (answer.stdout.strip() for answer in asked)
    return commit + ("+changes" if changed or new else "")
