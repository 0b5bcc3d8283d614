"""Models that move between a GPU and the host after they have decoded, and models in 64 bits."""

import copy

import pytest
import tiny
import torch
from test_engine import CLOSE, LONG, fed

from specpress.engine.graphs import has_graphs, use_eager

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_that_leaves_its_gpu_is_not_replayed(family, gpu):
    model, tokens = tiny.FAMILIES[family](**LONG), tiny.prompt(300)
    found = []
    for device in ("cpu", gpu, "cpu", gpu):
        found.append(fed(model.to(device), tokens))
        assert has_graphs(model) == (device == gpu)
    for a, *others in zip(*found, strict=True):
        for b in others:
            torch.testing.assert_close(b, a, **CLOSE)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_graphs_of_64_bits_round_as_eager_steps_do(family, gpu):
    """Steps of more than 256 slots among them, whose attention is two matrix products."""
    here, tokens = tiny.FAMILIES[family](**LONG).double(), tiny.prompt(300)
    there = copy.deepcopy(here).to(gpu)
    found = fed(there, tokens)
    assert has_graphs(there)
    use_eager(there)
    for a, b, c in zip(found, fed(there, tokens), fed(here, tokens), strict=True):
        assert a.dtype == torch.float64
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(a, c, **CLOSE)  # the tables of rotations are float32
