"""Waiting for another process, as long as it may take on a slow machine."""

import time


def wait_for(found, seconds: float = 300):
    """What `found()` gives once it is true; fails if that does not come about within a generous time."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return result
