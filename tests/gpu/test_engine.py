"""Steps as graphs, eager steps and the CPU's; weights that change; captures ahead of time; memory."""

import copy

import pytest
import tiny
import torch
import torch.nn.functional as F

from specpress import SamplingParams, generate
from specpress.drafters import DraftModel
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.fused import FusedForward
from specpress.engine.graphs import SIZES, buckets, captures, has_graphs, use_eager, use_graphs
from specpress.engine.kernels import masked_products
from specpress.hardware.devices import UNFUSED, exact_kernels
from specpress.study.memory import estimate
from specpress.theory.shapes import shape_of

pytestmark = pytest.mark.gpu

LONG = {"max_position_embeddings": 1024}
CLOSE = {"atol": 1e-4, "rtol": 1e-4}
SCRIPT = [1, 5, -3, 1, 2, 9, 17, -20, 3, 4, 7, 1]  # tokens to feed, or to take back; across the end of a bucket


def fed(model, tokens, capacity=400):
    logits = []
    with decode_attention(model):
        cached = CachedModel(model, capacity)
        cached.feed(tokens[:, :240])
        for n in SCRIPT:
            if n < 0:
                cached.rollback_to(cached.length + n)
            else:
                logits.append(cached.feed(tokens[:, cached.length : cached.length + n], keep=n).cpu())
    return logits


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_graphs_eager_steps_and_the_cpu_give_the_same_logits(family, batch, gpu):
    here, tokens = tiny.FAMILIES[family](**LONG), tiny.prompt(300, batch=batch)
    there = copy.deepcopy(here).to(gpu)
    expected = fed(here, tokens)
    assert use_graphs(there, ahead=True)
    graphs = fed(there, tokens)
    assert captures([there]) == len(SIZES) * len(list(buckets(512)))
    fed(there, tokens)
    assert captures([there]) == len(SIZES) * len(list(buckets(512)))  # another cache captures nothing
    use_eager(there)
    eager = fed(there, tokens)
    for a, b, c in zip(graphs, eager, expected, strict=True):
        torch.testing.assert_close(a, c, **CLOSE)
        torch.testing.assert_close(b, c, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("rows", "slots"), [(1, 512), (5, 2048), (51, 768)])
def test_masked_products_round_no_more_than_a_fused_kernel(rows, slots, dtype, gpu):
    generator = torch.Generator(gpu).manual_seed(0)
    shapes = [(2, 8, rows, 80), (2, 8, 4096, 80), (2, 8, 4096, 80)]
    query, key, value = (torch.randn(shape, generator=generator, device=gpu).to(dtype) for shape in shapes)
    key, value = 2 * key[:, :, :slots], value[:, :, :slots]
    mask = torch.zeros(1, 1, rows, slots, device=gpu, dtype=dtype)
    mask[..., slots // 2 :] = torch.finfo(dtype).min
    exact = F.scaled_dot_product_attention(*(x.double() for x in (query, key, value)), attn_mask=mask.double())
    with exact_kernels():
        ours = masked_products(query, key, value, mask, 80**-0.5)
        fused = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert ours.dtype == dtype
    assert (ours - exact).norm() <= 2 * (fused - exact).norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "phi3"])
def test_fused_kernels_round_no_more_than_torchs(family, dtype, gpu, monkeypatch):
    model, tokens = tiny.EVERY[family](**LONG), tiny.prompt(300, batch=2)
    exact = fed(copy.deepcopy(model).double(), tokens)
    model, found = model.to(gpu, dtype), {}
    for fused in ("0", "1"):
        monkeypatch.setenv(UNFUSED, fused)
        assert use_graphs(model)
        found[fused] = fed(model, tokens)
        steps = model.static_steps.arenas[0].steps.values()
        assert all(isinstance(step._forward, FusedForward) == (fused == "1") for step in steps)
    off = {
        fused: sum(float((a - b).norm()) for a, b in zip(logits, exact, strict=True)) for fused, logits in found.items()
    }
    assert off["1"] <= 1.5 * off["0"] + 1e-3


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_replaced_weights_are_noticed(family, gpu):
    model, tokens = tiny.FAMILIES[family](**LONG).to(gpu), tiny.prompt(300)
    assert use_graphs(model)
    before = fed(model, tokens)
    for parameter in model.parameters():
        parameter.data.mul_(1.1)
    graphs = fed(model, tokens)
    use_eager(model)
    for a, b, c in zip(graphs, fed(model, tokens), before, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
        assert not torch.allclose(a, c, **CLOSE)


def test_two_caches_in_turn(gpu):
    model, tokens = tiny.llama(**LONG).to(gpu), tiny.prompt(60)
    assert use_graphs(model)
    with decode_attention(model):
        caches = [CachedModel(model, 100) for _ in range(2)]
        caches[0].feed(tokens[:, :20])
        caches[1].feed(tokens[:, 20:40])
        graphs = [cached.feed(tokens[:, i : i + 1]).cpu() for i in range(40, 50) for cached in caches]
        use_eager(model)
        caches = [CachedModel(model, 100) for _ in range(2)]
        caches[0].feed(tokens[:, :20])
        caches[1].feed(tokens[:, 20:40])
        eager = [cached.feed(tokens[:, i : i + 1]).cpu() for i in range(40, 50) for cached in caches]
    for a, b in zip(graphs, eager, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_a_gpu_decodes_by_graphs_unless_told_otherwise(gpu):
    model = tiny.llama().to(gpu)
    assert has_graphs(model)
    use_eager(model)
    assert not has_graphs(model)


def test_the_peak_of_memory_stays_under_the_estimate(gpu):
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "max_position_embeddings": 2048}
    target, draft = (tiny.gpt_neox(layers, vocabulary=5000, **sizes).half() for layers in (6, 2))
    known = {
        name: {**shape_of(model.config.to_dict()).size("float16"), "dtype": "float16"}
        for name, model in {"target": target, "draft": draft}.items()
    }
    spec = {"kind": "speed", "model": "target", "baseline": "target", "drafter": {"model": "draft"}}
    spec |= {"prompt_tokens": 1500, "max_new_tokens": 40}
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    target, draft = target.to(gpu), draft.to(gpu)
    use_graphs(target, ahead=True)
    use_graphs(draft, ahead=True)
    prompt = torch.randint(2, 5000, (1, 1500), generator=torch.Generator().manual_seed(0))
    for options in ({}, {"drafter": DraftModel(draft)}):
        generate(target, prompt, max_new_tokens=40, sampling=SamplingParams(top_p=0.9), **options)
    assert torch.cuda.max_memory_allocated() - before <= sum(estimate(spec, known, "cuda").values())
