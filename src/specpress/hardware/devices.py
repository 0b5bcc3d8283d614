"""The device a job computes on: which one, in which dtype, with how much memory, under which settings."""

import fcntl
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir
from typing import IO

import torch

KINDS = ("cuda", "mps", "cpu")
UNFUSED = "SPECPRESS_FUSED"  # set it to 0 to have captured steps run in torch's kernels alone

_TRITON = (8, 0)  # the compute capability that it is made for
_LOOK_AGAIN = 1.0  # seconds between two looks for a free GPU
_held: dict[str, IO] = {}  # locks of the GPUs this process has claimed, by their UUID


def resolve_device(device="auto") -> torch.device:
    """A torch device; "auto" takes cuda, else mps, else cpu.

    Raises
    ------
    ValueError
        If there is no such device here.
    """
    if isinstance(device, torch.device):
        return device
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(kind for kind in KINDS if available[kind]))
    kind, _, index = str(device).partition(":")
    if kind not in KINDS or (index and not index.isdigit()):
        raise ValueError(f"unknown device {device!r}; use auto, cpu, cuda, cuda:1, ... or mps")
    if not available[kind]:
        here = ", ".join(name for name in KINDS if available[name])
        raise ValueError(f"device {device!r} is not available here (available: {here}); set `device` in the study")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        here = ", ".join(f"cuda:{number}" for number in range(torch.cuda.device_count()))
        raise ValueError(f"there is no device {device!r} here, only {here}; set `device` in the study")
    return torch.device(device)


def claim(device: torch.device, folder: str | None = None) -> torch.device:
    """The device, locked until the process ends where it is a GPU; of several, if none is chosen, one that is free.

    Jobs that claim never compute on one GPU at the same time, so nothing of a study runs beside what is timed. Where
    every GPU in question is taken, this waits until one is free, and says so. The lock is on a file of `folder` (the
    system's temporary one), named after the card itself: a job that is shown one GPU only, as SLURM does, sees others'
    locks on it.
    """
    if device.type != "cuda":
        return device
    chosen = range(torch.cuda.device_count()) if device.index is None else [device.index]
    cards = {index: str(torch.cuda.get_device_properties(index).uuid) for index in chosen}
    for index, card in cards.items():
        if card in _held:
            return torch.device("cuda", index)
    waiting = False
    while True:
        for index, card in cards.items():
            if lock := _locked(Path(folder or gettempdir()) / f"specpress-{os.getuid()}-gpu-{card}.lock"):
                _held[card] = lock
                return torch.device("cuda", index)
        if not waiting:
            print("every GPU is taken by another job: waiting for one", file=sys.stderr, flush=True)
        waiting = True
        time.sleep(_LOOK_AGAIN)


def _locked(path: Path) -> IO | None:
    """The file, locked; None if another process holds it."""
    file = open(path, "w")  # noqa: SIM115 (open as long as the lock is held)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16, which has float32's range; float16 on mps and on GPUs that cannot compute in bfloat16."""
    if device.type == "mps":
        return torch.float16
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished what it was given; a clock read afterwards is about work that is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def free_memory(device: torch.device) -> int:
    """Bytes of the device's memory that are free now; on a CPU, what the system says it could still give."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    import psutil

    return psutil.virtual_memory().available


@contextmanager
def exact_kernels():
    """Inside the block CUDA computes in kernels whose rounding and cost do not depend on how many rows there are.

    Matrix products of 16 bits add up in float32 to the end. cuDNN's attention is off: it plans anew for every number of
    slots it meets, which costs a decoding step more than the step.
    """
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_fp16_reduced_precision_reduction, matmul.allow_bf16_reduced_precision_reduction
    cudnn = torch.backends.cuda.cudnn_sdp_enabled()
    matmul.allow_fp16_reduced_precision_reduction = matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        matmul.allow_fp16_reduced_precision_reduction, matmul.allow_bf16_reduced_precision_reduction = before
        torch.backends.cuda.enable_cudnn_sdp(cudnn)


def fuses(device: torch.device) -> bool:
    """Whether steps captured there run in kernels of ours, which need Triton and a GPU that it is made for.

    torch for CUDA brings it along.
    """
    if device.type != "cuda" or find_spec("triton") is None or os.environ.get(UNFUSED) == "0":
        return False
    return torch.cuda.get_device_capability(device) >= _TRITON


def settings(cuda_graphs: bool = False) -> dict:
    """What decides whether two runs on one device give the same numbers, as a metrics file records it: while decoding.

    cuda_graphs : whether decoding steps ran as graphs, where they could
    """
    cuda = torch.backends.cuda
    with exact_kernels():
        return {
            "cuda_graphs": cuda_graphs,
            "cuda_fused_kernels": cuda_graphs and fuses(torch.device("cuda")),
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cuda_tf32": cuda.matmul.allow_tf32,
            "cuda_fp16_reduced_precision_reduction": cuda.matmul.allow_fp16_reduced_precision_reduction,
            "cuda_bf16_reduced_precision_reduction": cuda.matmul.allow_bf16_reduced_precision_reduction,
            "cuda_attention": [
                name
                for name, on in {
                    "flash": cuda.flash_sdp_enabled(),
                    "memory-efficient": cuda.mem_efficient_sdp_enabled(),
                    "math": cuda.math_sdp_enabled(),
                    "cudnn": cuda.cudnn_sdp_enabled(),
                }.items()
                if on
            ],
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
            "cuda_driver": _driver(),
        }


def _driver() -> str | None:
    """The version of NVIDIA's driver; None without one."""
    if not torch.cuda.is_available():
        return None
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.split("\n")[0].strip() or None
