"""How many threads torch computes with."""

import os

import torch

_MOST = 1024  # unless there are more cores; asked for millions, torch ends the process without a word


def use_threads(threads: int) -> None:
    """Let torch compute with so many threads from here on.

    Raises
    ------
    ValueError
        For none, or more than any machine could start.
    """
    most = max(_MOST, os.cpu_count() or 1)
    if not 1 <= threads <= most:
        raise ValueError(f"threads must be from 1 to {most}, got {threads}; this machine has {os.cpu_count()} cores")
    torch.set_num_threads(threads)
