import pytest
import torch

from specpress.hardware import devices
from specpress.hardware.devices import claim, default_dtype, free_memory, resolve_device, settings
from specpress.hardware.environment import describe, peak_memory_bytes


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_the_fastest_device_is_taken_automatically(gpu):
    assert resolve_device() == torch.device("cuda")
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("cuda:1") == torch.device("cuda", 1)


def test_a_device_that_is_not_there_is_refused(no_gpu):
    assert resolve_device("auto") == torch.device("cpu")
    for device in ("cuda", "cuda:0", "mps"):
        with pytest.raises(ValueError, match=rf"'{device}' is not available here \(available: cpu\); set `device`"):
            resolve_device(device)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "tpu:0"])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(ValueError, match=f"unknown device '{device}'; use auto, cpu, cuda"):
        resolve_device(device)


@pytest.mark.parametrize(
    ("device", "bf16", "dtype"),
    [("cpu", False, "bfloat16"), ("mps", False, "float16"), ("cuda", True, "bfloat16"), ("cuda", False, "float16")],
)
def test_dtype_follows_the_device(monkeypatch, device, bf16, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    assert default_dtype(torch.device(device)) == getattr(torch, dtype)


def test_peak_memory_is_the_allocators_on_a_gpu_and_the_process_elsewhere(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: {"cuda:1": 42}[device])
    assert peak_memory_bytes("cuda:1") == 42
    assert 10_000_000 < peak_memory_bytes() <= peak_memory_bytes("cpu") < 2**50


def test_the_environment_says_how_deterministic_it_was():
    assert describe(threads=1, device="cpu", dtype="float32")["settings"] == settings()
    assert settings()["deterministic_algorithms"] is False
    torch.use_deterministic_algorithms(True)
    try:
        assert settings()["deterministic_algorithms"] is True
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_cpu_has_free_memory():
    assert 0 < free_memory(torch.device("cpu")) < 2**50


def test_every_job_gets_a_gpu_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("specpress.hardware.devices._held", [])
    any_gpu = torch.device("cuda")
    assert [claim(any_gpu, tmp_path).index for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match=r"all 2 GPUs are taken.*--resources gpu=N"):
        claim(any_gpu, tmp_path)
    assert claim(torch.device("cuda", 1), tmp_path).index == 1  # the study's choice
    assert claim(torch.device("cpu"), tmp_path).type == "cpu"
    for file in devices._held:  # the other jobs end
        file.close()
    assert claim(any_gpu, tmp_path).index == 0
