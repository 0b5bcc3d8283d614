"""Models that move between the host and a pretended GPU, whose graphs hold the kernels of that GPU alone."""

import pytest
import tiny
import torch
from pretended_gpu import pretended_gpu
from test_graphs import CLOSE, LONG, fed

from specpress.engine import graphs
from specpress.engine.attention import decode_attention
from specpress.engine.graphs import has_graphs

SCRIPT = [1, 5, 1, 5, 1]


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    def captured(run):
        """What runs on the host is in no graph: a replay leaves the outputs as they were when it was captured."""
        outputs = run()
        return run if outputs.is_cuda else lambda: outputs

    with pretended_gpu(tmp_path) as device:
        monkeypatch.setattr(graphs, "CudaGraphs", lambda device: captured)
        yield device


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_that_leaves_its_gpu_is_not_replayed(family, gpu):
    model, tokens = tiny.FAMILIES[family](**LONG), tiny.prompt(300)
    with decode_attention(model):
        here = fed(model, tokens, SCRIPT)
        assert not has_graphs(model)
        there = fed(model.to(gpu), tokens, SCRIPT)
        assert has_graphs(model)
        back = fed(model.to("cpu"), tokens, SCRIPT)
        assert not has_graphs(model)
    for a, b, c in zip(here, there, back, strict=True):
        torch.testing.assert_close(b.cpu(), a, **CLOSE)
        torch.testing.assert_close(c, a, **CLOSE)
