"""The device a job computes on: which one, in which dtype, with how much memory, under which settings."""

import fcntl
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

import torch

KINDS = ("cuda", "mps", "cpu")

_held = []  # locks of the GPUs this process has claimed


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
    return torch.device(device)


def claim(device: torch.device, folder: str | None = None) -> torch.device:
    """With several GPUs and none chosen, one that no other job of this machine holds; else the device itself.

    The lock on a file of `folder` (the system's temporary one) ends with the process. Where the system shows a job only
    its own GPU, as SLURM does, there is nothing to choose.

    Raises
    ------
    ValueError
        If every GPU is taken.
    """
    if device.type != "cuda" or device.index is not None or torch.cuda.device_count() < 2:
        return device
    for index in range(torch.cuda.device_count()):
        file = open(Path(folder or gettempdir()) / f"specpress-{os.getuid()}-gpu{index}.lock", "w")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        _held.append(file)
        return torch.device("cuda", index)
    raise ValueError(
        f"all {torch.cuda.device_count()} GPUs are taken by other jobs: give snakemake --resources gpu=N, their number"
    )


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


def settings() -> dict:
    """What decides whether two runs on one device give the same numbers, as a metrics file records it: while decoding.

    `cuda_graphs` is the experiment's to set.
    """
    cuda = torch.backends.cuda
    with exact_kernels():
        return {
            "cuda_graphs": False,
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
