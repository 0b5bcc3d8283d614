"""Functions recorded for each shape of their inputs, with a stand-in for a CUDA graph that replays kernels."""

import pytest
import torch
from instruments import NoHostReads, Tape

from specpress import SamplingParams
from specpress.hardware import recording as module
from specpress.hardware.recording import ROWS, Recorded, Recording
from specpress.laws.device import DeviceLaws
from specpress.laws.law import Head
from specpress.laws.sampling import Randomness
from specpress.speculation.device_verification import verify_on_device
from specpress.speculation.drafter import Proposal
from specpress.speculation.rounds import judge

SAMPLINGS = {
    "nucleus": SamplingParams(temperature=0.85, top_p=0.9),
    "top k": SamplingParams(top_k=5),
}


@pytest.fixture
def recording(monkeypatch):
    """Functions are recorded on the CPU, on tapes."""
    made = Recording(lambda device: Tape(), kind="cpu")
    monkeypatch.setattr(module, "recording", made)
    return made


def rows(n: int, seed: int, width: int = 60) -> torch.Tensor:
    return 3 * torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def test_a_shape_is_recorded_once_and_computes_from_what_it_is_given(recording):
    added = Recorded(lambda a, b, times: (times * (a + b), a - b))
    for seed in range(3):
        a, b = rows(2, seed), rows(2, seed + 9)
        total, difference = added(a, b, constants=(3,))
        assert torch.equal(total, 3 * (a + b))
        assert torch.equal(difference, a - b)
    assert recording.captured == 1
    added(rows(3, 0), rows(3, 1), constants=(3,))
    added(rows(2, 0), rows(2, 1), constants=(4,))
    assert recording.captured == 3


def test_outputs_outlive_the_next_replay(recording):
    doubled = Recorded(lambda a: (2 * a,))
    (first,) = doubled(rows(1, 0))
    doubled(rows(1, 1))
    assert torch.equal(first, 2 * rows(1, 0))


def test_ahead_of_time_every_number_of_rows_is_recorded_with_the_first(recording):
    recording.ahead = True
    summed = Recorded(lambda a, b: (a + b[1:],))
    for n in range(1, ROWS + 1):
        assert torch.equal(summed(rows(n, n), rows(n + 1, 0))[0], rows(n, n) + rows(n + 1, 0)[1:])
    assert recording.captured == ROWS


def test_many_rows_other_devices_and_eager_runs_are_not_recorded(recording):
    doubled = Recorded(lambda a: (2 * a,))
    doubled(rows(ROWS + 1, 0))
    recording.on = False
    doubled(rows(1, 0))
    assert not recording.captured
    assert not Recording().takes(torch.device("cpu"))
    assert Recording().takes(torch.device("cuda"))


@pytest.mark.parametrize("method", ["token", "block"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_laws_draws_and_verdicts_are_those_without_a_recording(sampling, method, recording):
    sampling, head = SAMPLINGS[sampling], torch.arange(0, 60, 2)
    head = Head(head.numpy(), head)

    def played(seed: int):
        randomness = Randomness(seed)
        draft = DeviceLaws(rows(4, seed, 30), sampling, head)
        drafted = draft.draw(randomness)
        target = DeviceLaws(rows(5, seed + 50), sampling)
        return draft.mass, *drafted, verify_on_device(method, target, draft, drafted.tokens, randomness)

    recording.on = False
    expected = [played(seed) for seed in range(6)]
    recording.on = True
    for seed in range(6):
        *found, verdict = played(seed)
        *plain, plainly = expected[seed]
        assert verdict == plainly
        assert all(map(torch.equal, found, plain))
    assert recording.captured == 4  # laws of draft and target, draws, verdicts


def test_a_replay_reads_nothing_on_the_host(recording):
    sampling, randomness = SAMPLINGS["nucleus"], Randomness(0)
    DeviceLaws(rows(1, 0), sampling).draw(randomness)
    with NoHostReads():
        DeviceLaws(rows(1, 1), sampling).draw(randomness)


def test_seeds_share_a_recording(recording):
    for seed in range(3):
        DeviceLaws(rows(1, 0), SamplingParams(top_p=0.9, seed=seed))
    assert recording.captured == 1


def test_a_round_records_the_verdict_on_a_drafter_of_paths_alone(recording):
    target, draft = (DeviceLaws(rows(n, n), SAMPLINGS["nucleus"]) for n in (4, 3))
    before, drafted = recording.captured, draft.mass.argmax(-1)
    judge(target, Proposal(drafted, draft, parents=[-1, 0, 1]), Randomness(0), "traversal")
    assert recording.captured == before
    judge(target, Proposal(drafted, draft), Randomness(0), "traversal")
    assert recording.captured == before + 1
