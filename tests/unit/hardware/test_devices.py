import os
from types import SimpleNamespace

import pytest
import tiny
import torch

from specpress.engine.attention import decode_attention
from specpress.hardware import devices
from specpress.hardware.devices import claim, default_dtype, free_memory, resolve_device, settings
from specpress.hardware.environment import describe, peak_memory_bytes


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_the_fastest_device_is_taken_automatically(gpu):
    assert resolve_device() == torch.device("cuda")
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="there is no device 'cuda:2' here, only cuda:0, cuda:1; set `device`"):
        resolve_device("cuda:2")


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


def test_the_environment_says_how_threads_wait(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_PROC_BIND"):
        monkeypatch.delenv(name, raising=False)
    assert describe(threads=2, device="cpu", dtype="float32")["waiting"] == "default"
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    waiting = describe(threads=2, device="cpu", dtype="float32")["waiting"]
    assert waiting == "OMP_WAIT_POLICY=passive, GOMP_SPINCOUNT=0"


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


@pytest.fixture
def two_gpus(monkeypatch):
    """Of a machine of four: what a job is shown as cuda:0 and cuda:1 are cards b and c."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="bc"[index]))
    monkeypatch.setattr(devices, "_held", {})


def taken_elsewhere(folder, card):
    return devices._locked(folder / f"specpress-{os.getuid()}-gpu-{card}.lock")


def test_every_job_gets_a_gpu_of_its_own(two_gpus, tmp_path):
    other = taken_elsewhere(tmp_path, "b")
    assert claim(torch.device("cuda"), tmp_path) == torch.device("cuda", 1)
    assert claim(torch.device("cuda"), tmp_path) == torch.device("cuda", 1)  # the job has one
    assert taken_elsewhere(tmp_path, "c") is None
    assert claim(torch.device("cpu"), tmp_path).type == "cpu"
    other.close()
    assert claim(torch.device("cuda", 0), tmp_path) == torch.device("cuda", 0)  # the study's choice
    assert taken_elsewhere(tmp_path, "b") is None


def test_a_job_waits_for_a_gpu(two_gpus, tmp_path, monkeypatch, capsys):
    others = [taken_elsewhere(tmp_path, card) for card in "bc"]
    monkeypatch.setattr(devices.time, "sleep", lambda seconds: others.pop().close())
    assert claim(torch.device("cuda"), tmp_path) == torch.device("cuda", 1)
    assert "every GPU is taken by another job: waiting" in capsys.readouterr().err


def test_kernels_are_exact_while_decoding_and_as_they_were_afterwards():
    cuda = torch.backends.cuda
    before = cuda.cudnn_sdp_enabled(), cuda.matmul.allow_fp16_reduced_precision_reduction
    assert before == (True, True)
    with decode_attention(tiny.llama()):
        assert not cuda.cudnn_sdp_enabled()
        assert not cuda.matmul.allow_fp16_reduced_precision_reduction
        assert not cuda.matmul.allow_bf16_reduced_precision_reduction
    assert (cuda.cudnn_sdp_enabled(), cuda.matmul.allow_bf16_reduced_precision_reduction) == before
    recorded = settings(cuda_graphs=True)
    assert recorded["cuda_graphs"] is True
    assert recorded["cuda_attention"] == ["flash", "memory-efficient", "math"]
    assert recorded["cuda_fp16_reduced_precision_reduction"] is False


def test_a_gpu_is_recorded_by_its_kind_and_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {torch.device(device).index or 0}")
    for device in ("cuda", "cuda:0", torch.device("cuda", 0)):
        found = describe(threads=1, device=device, dtype=torch.float16)
        assert (found["device"], found["accelerator"], found["dtype"]) == ("cuda", "card 0", "float16")
    assert describe(threads=1, device="cpu", dtype="float32")["accelerator"] is None
