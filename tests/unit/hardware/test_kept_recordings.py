"""How many recordings are kept, with a stand-in for a CUDA graph that replays kernels: those that were used last."""

import gc
import weakref

import pytest
import torch
from instruments import Tape

from specpress.hardware import recording as module
from specpress.hardware.recording import ROWS, Recorded, Recording

scaled = Recorded(lambda a, times: (times * a,))


@pytest.fixture
def recording(monkeypatch):
    """Functions are recorded on the CPU, on tapes, of which three settings are kept."""
    made = Recording(lambda device: Tape(), kind="cpu")
    monkeypatch.setattr(module, "recording", made)
    monkeypatch.setattr(module, "SETTINGS", 3)
    return made


def of(times: int, rows: int = 2) -> None:
    """The function of a setting gives what it gave before it was recorded, or given up."""
    row = torch.randn(rows, 5)
    (found,) = scaled(row, constants=(times,))
    assert torch.equal(found, times * row)


def test_the_setting_used_least_lately_is_given_up_for_another(recording):
    for times in (1, 2, 3, 1, 4):
        of(times)
    assert recording.captured == 4
    for times in (3, 1, 4):  # 2 has gone
        of(times)
    assert recording.captured == 4
    of(2)
    assert recording.captured == 5
    assert len(recording.made) == 3


def test_what_is_given_up_is_freed(recording):
    of(1)
    given = weakref.ref(next(iter(recording.made.values()))[2][0][0])
    assert given() is not None
    for times in (2, 3, 4):
        of(times)
    gc.collect()
    assert given() is None


def test_a_setting_is_kept_with_all_numbers_of_its_rows(recording):
    """A measurement records them ahead, so that none is while a clock runs: they count as one."""
    recording.ahead = True
    for times in (1, 2, 3):
        of(times)
    for rows in range(1, ROWS + 1):
        for times in (3, 2, 1):
            of(times, rows)
    assert recording.captured == 3 * ROWS
