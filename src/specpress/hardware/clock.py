"""The clock: read after the device has done its work, and with no collection of garbage meanwhile."""

import gc
import time
from contextlib import contextmanager

import torch

from specpress.hardware.devices import synchronize


def clock(device: torch.device) -> float:
    """Seconds on a monotonic clock, after the device has finished what it was given."""
    synchronize(device)
    return time.perf_counter()


@contextmanager
def no_garbage_collection():
    """Collect before, not during, what is timed inside the block.

    What outlives the collection is set aside: the next one need not go through every imported module again.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
