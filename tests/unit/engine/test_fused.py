"""Captured steps in Triton's kernels against the plain pass: interpreted on a CPU, compiled where there is a GPU."""

import pytest
import tiny
import torch
from test_graphs import CLOSE, LONG, fed, static

from specpress.engine import graphs
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.forward import forward_of
from specpress.engine.fused import FusedForward, fused
from specpress.engine.tree import Tree
from specpress.hardware import devices


@pytest.fixture
def interpreted(monkeypatch):
    """Triton runs the kernels on the CPU, in NumPy; every step takes them."""
    pytest.importorskip("triton", reason="Triton comes with torch for CUDA")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    if torch.cuda.is_available():
        pytest.skip("tests/gpu has the kernels as they are compiled")
    monkeypatch.setattr(graphs, "fused", lambda forward, device: FusedForward(forward))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "phi3"])
@pytest.mark.usefixtures("interpreted")
def test_logits_are_those_of_the_plain_pass(family, batch):
    """One and five tokens, after a rollback, and across the end of a bucket (256 slots)."""
    model = tiny.EVERY[family](**LONG)
    tokens, script = tiny.prompt(300, batch=batch), [1, 5, -3, 1, 5]
    with decode_attention(model):
        eager = fed(model, tokens, script)
        static(model)
        ours = fed(model, tokens, script)
    for a, b in zip(ours, eager, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.usefixtures("interpreted")
def test_a_tree_hides_what_is_not_on_the_path():
    model, tree = tiny.llama(**LONG), Tree([-1, -1, 0, 0])

    def written():
        cached = CachedModel(model, 300)
        cached.feed(tiny.prompt(245))
        return cached.feed(tiny.prompt(5, seed=1), 5, tree)

    with decode_attention(model):
        eager = written()
        static(model)
        torch.testing.assert_close(written(), eager, **CLOSE)


def test_layers_that_norm_queries_and_keys_take_the_plain_pass():
    assert not FusedForward.knows(forward_of(tiny.EVERY["qwen3"]()))
    assert FusedForward.knows(forward_of(tiny.llama()))


def test_a_cpu_takes_the_plain_pass():
    forward = forward_of(tiny.llama())
    assert fused(forward, torch.device("cpu")) is forward


@pytest.mark.parametrize(
    ("triton", "capability", "switch", "expected"),
    [(True, (9, 0), "1", True), (True, (8, 0), "1", True), (False, (9, 0), "1", False), (True, (7, 5), "1", False),
     (True, (9, 0), "0", False)],
)  # fmt: skip
def test_kernels_of_ours_run_where_triton_and_the_gpu_let_them(monkeypatch, triton, capability, switch, expected):
    monkeypatch.setattr(devices, "find_spec", lambda name: triton or None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setenv(devices.UNFUSED, switch)
    assert devices.fuses(torch.device("cuda")) is expected
    assert isinstance(fused(forward_of(tiny.llama()), torch.device("cuda")), FusedForward) is expected
