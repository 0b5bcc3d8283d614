"""Every way to attend on a CPU against plain softmax attention, and the choice among them."""

import pytest
import torch

from specpress.engine import kernels
from specpress.engine.kernels import KERNELS, VARIABLE, attend, chosen, masked_products


def inputs(*, batch=2, slots=37, rows=6, capacity=64, dtype=torch.float32, seed=0):
    """Queries, and keys and values that are the first slots of buffers, whose others hold no numbers."""
    generator = torch.Generator().manual_seed(seed)
    key, value = (torch.full((batch, 3, capacity, 16), torch.nan, dtype=dtype) for _ in range(2))
    for buffer in (key, value):
        buffer[:, :, :slots] = torch.randn(batch, 3, slots, 16, generator=generator).to(dtype)
    query = torch.randn(batch, 3, rows, 16, generator=generator).to(dtype)
    return query, key[:, :, :slots], value[:, :, :slots]


def plain(query, key, value, mask, scaling):
    scores = torch.einsum("bhrd,bhsd->bhrs", query.double(), key.double()) * scaling
    weights = torch.softmax(scores if mask is None else scores + mask, -1)
    return torch.einsum("bhrs,bhsd->bhrd", weights, value.double())


def hiding(*shape):
    """A mask that hides some slots, never the first."""
    hidden = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.4
    hidden[..., 0] = False
    return torch.zeros(shape).masked_fill_(hidden, torch.finfo(torch.float32).min)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("capacity", [37, 40, 64])
@pytest.mark.parametrize("slots", [1, 3, 16, 37])
@pytest.mark.parametrize("mask", [None, (1, 1), (2, 1), (2, 3)])
def test_every_way_is_attention(name, capacity, slots, mask):
    query, key, value = inputs(slots=slots, capacity=capacity)
    mask = None if mask is None else hiding(*mask, 6, slots)
    got = KERNELS[name](query, key, value, mask, 0.3)
    torch.testing.assert_close(got, plain(query, key, value, mask, 0.3).float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", KERNELS)
def test_every_way_rounds_as_bfloat16_does(name):
    query, key, value = inputs(slots=700, capacity=768, dtype=torch.bfloat16)
    got = KERNELS[name](query, key, value, None, 0.3)
    assert got.dtype == torch.bfloat16
    expected = plain(query, key, value, None, 0.3)
    assert (got - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("mask", [(1, 1), (2, 1), (2, 3)])
def test_the_way_of_a_gpu_is_attention(mask, dtype, close):
    query, key, value = inputs(slots=37, dtype=dtype)
    mask = hiding(*mask, 6, 37).to(dtype)
    got = masked_products(query, key, value, mask, 0.3)
    assert got.dtype == dtype
    torch.testing.assert_close(got, plain(query, key, value, mask, 0.3).to(dtype), atol=close, rtol=10 * close)


@pytest.fixture
def timed(monkeypatch):
    """Ways that take the times they are given, in seconds, by a clock of their own; returns the list of calls."""

    def stage(**seconds):
        now, calls = [0.0], []

        def way(name):
            def kernel(query, *_):
                now[0] += seconds[name]
                calls.append(name)
                return query

            return kernel

        monkeypatch.setattr(kernels, "KERNELS", {name: way(name) for name in seconds})
        monkeypatch.setattr(kernels.time, "perf_counter", lambda: now[0])
        return calls

    monkeypatch.setattr(kernels, "_chosen", {})
    monkeypatch.setattr(kernels, "_BLOCK", 16)
    monkeypatch.delenv(VARIABLE, raising=False)
    return stage


def test_the_fastest_way_is_chosen_once_for_a_kind_of_shape(timed):
    calls = timed(fused=1.0, divided=0.5, products=0.7)
    attend(*inputs(slots=20), None, 1.0)
    measured = len(calls)
    assert {calls.count(name) for name in ("fused", "products")} == {kernels._REPEATS}
    for slots in (21, 32):
        attend(*inputs(slots=slots), None, 1.0)
    assert calls[measured:] == ["divided"] * 2
    attend(*inputs(slots=33), None, 1.0)  # another power of two
    assert len(calls) > measured + 3
    assert set(chosen().values()) == {"divided"}
    assert any("slots 32 masked False dtype torch.float32" in kind for kind in chosen())


def test_noise_does_not_choose(timed):
    timed(fused=1.0, divided=0.95)
    attend(*inputs(slots=20), None, 1.0)
    assert set(chosen().values()) == {"fused"}


def test_few_slots_and_prompts_are_not_measured(timed):
    timed(other=1.0)
    attend(*inputs(slots=16), None, 1.0)
    attend(*inputs(slots=20, rows=kernels._MANY_ROWS + 1), None, 1.0)
    assert chosen() == {}


def test_a_way_can_be_named_instead(timed, monkeypatch):
    calls = timed(fused=1.0, divided=0.5)
    monkeypatch.setenv(VARIABLE, "fused")
    attend(*inputs(slots=20), None, 1.0)
    assert calls == ["fused"]
    assert chosen() == {"all shapes": "fused"}
    monkeypatch.setenv(VARIABLE, "fastest")
    with pytest.raises(ValueError, match="SPECPRESS_ATTENTION is 'fastest'; use fused, divided, or unset it"):
        attend(*inputs(slots=20), None, 1.0)
