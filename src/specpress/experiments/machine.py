"""What this machine sustains in the parts of a decoding step, by small benchmarks: the rates of `theory.MachineRates`.

The shapes are a model's own, its weights are random, and nothing is generated: what the roofline predicts from these
rates can be put beside measured experiments, which they do not know.
"""

import copy
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm

from specpress.engine.attention import ATTENTION, grouped_attention, grouped_mask
from specpress.engine.cached_model import CachedModel
from specpress.engine.forward import forward_of
from specpress.engine.graphs import use_eager, use_graphs
from specpress.engine.linear import LinearMap
from specpress.files.metrics import SCHEMA
from specpress.hardware.clock import clock
from specpress.hardware.devices import exact_kernels, fuses
from specpress.hardware.disturbance import watch
from specpress.hardware.environment import describe, now, peak_memory_bytes
from specpress.hardware.recording import CudaGraphs
from specpress.hardware.threads import use_threads
from specpress.models.build import build_model, with_layers

ROWS = (1, 2, 4, 8, 16, 40, 80)  # token rows multiplied with the weights: batch size times queries
QUERIES = (1, 2, 5, 9)  # query tokens a sequence: 1 decodes, gamma + 1 verify

_COLD_BYTES = 256 * 2**20  # more than any cache holds, so that each pass reads memory
_GPU_COPY_BYTES = 2**31  # beside which waiting for a GPU is nothing
_GPU_SQUARE = 8192  # rows and columns of what is multiplied on a GPU
_BATCH, _SLOTS = 4, 2048
ALONE = (512, 2048)  # slots of a single sequence, whose few heads threads may share badly
_SECONDS = 0.6  # for each benchmark
_LEAST_RUNS = 5


def measure(
    spec: dict, config, *, dtype: torch.dtype, device: torch.device, threads: int, cuda_graphs: bool = True
) -> dict:
    """The machine's record.

    Parameters
    ----------
    spec : dict, with the record's "id"
    config : of a model, whose shapes are benchmarked
    dtype, device, threads, cuda_graphs : as the experiments will run

    Returns
    -------
    dict: copy_gb_s (bytes read and written), weight_gb_s and weight_gb_s_by_rows, kv_gb_s and kv_gb_s_by_queries (of
    `_BATCH` sequences), kv_gb_s_alone (of one, by slots), gflops, step_overhead_ms; with the spec and the environment.
    """
    use_threads(threads)
    began, started = now(), time.perf_counter()
    graphs = cuda_graphs and device.type == "cuda"
    with watch() as watched, exact_kernels(), torch.inference_mode():
        rates = _rates(config, dtype, device, graphs, spec["id"])
    return {
        "schema": SCHEMA,
        "id": spec["id"],
        "kind": "machine",
        "spec": spec,
        "environment": describe(threads=threads, device=device, dtype=dtype, cuda_graphs=graphs),
        "disturbance": watched.record(),
        "started": began,
        "wall_seconds": time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(str(device)),
        "weight_gb_s": rates["weight_gb_s_by_rows"]["1"],
        "kv_gb_s": rates["kv_gb_s_by_queries"]["1"],
        **rates,
    }


def _rates(config, dtype: torch.dtype, device: torch.device, graphs: bool, name: str) -> dict:
    """All rates, from one round of benchmarks: what the roofline sets beside each other was measured beside it."""
    weights, weight_bytes = _weights(config, dtype, device)
    step, maps = _thin_step(config, dtype, device, graphs)
    copy, copy_bytes = _copy(device)
    product, operations = _product(dtype, device)
    caches, cache_bytes = _attention(config, dtype, device, graphs, _BATCH, _SLOTS, QUERIES)
    alone = {slots: _attention(config, dtype, device, graphs, 1, slots, (1,)) for slots in ALONE}
    parts = {
        ("maps", 1): maps,
        **{("weights", rows): run for rows, run in weights.items()},
        **{("caches", queries): run for queries, run in caches.items()},
        **{("alone", slots): run[1] for slots, (run, _) in alone.items()},
    }
    if graphs:  # as the steps that they are parts of: launched one by one they would take what launching does
        capture = CudaGraphs(device)
        parts = {key: capture(run) for key, run in parts.items()}
    runs = {("copy", 1): copy, ("product", 1): product, ("step", 1): step, **parts}
    seconds = _in_turn(runs, device, name)
    return {
        "copy_gb_s": 1e-9 * copy_bytes / seconds["copy", 1],
        "gflops": 1e-9 * operations / seconds["product", 1],
        "step_overhead_ms": 1e3 * max(0.0, seconds["step", 1] - seconds["maps", 1]),
        "weight_gb_s_by_rows": {str(rows): 1e-9 * weight_bytes / seconds["weights", rows] for rows in ROWS},
        "kv_gb_s_by_queries": {str(n): 1e-9 * cache_bytes / seconds["caches", n] for n in QUERIES},
        "kv_gb_s_alone": {str(slots): 1e-9 * nbytes / seconds["alone", slots] for slots, (_, nbytes) in alone.items()},
    }


def _in_turn(
    runs: Mapping[Hashable, Callable[[], object]], device: torch.device, name: str = ""
) -> dict[Hashable, float]:
    """Median seconds of each of `runs`, taken in turn there and back, after a turn that does not count.

    They are compared with each other: what slows the machine for a while has to slow all of them. One after the other,
    weights were once read at 6.7 GB/s for one row and at 15.7 for two, where steps beside them took alike; and weights
    at 7.1 beside caches at 7.7, where a step on a smaller cache gained more than that allows.
    """
    for run in runs.values():
        run()
    taken: dict[Hashable, list[float]] = {key: [] for key in runs}
    turn, deadline = list(runs), time.perf_counter() + _SECONDS * len(runs)
    with tqdm(desc=name, unit="benchmark", mininterval=1, disable=not name) as progress:
        while len(taken[turn[0]]) < _LEAST_RUNS or time.perf_counter() < deadline:
            for key in turn:
                before = clock(device)
                runs[key]()
                taken[key].append(clock(device) - before)
                progress.update()
            turn.reverse()
    return {key: statistics.median(seconds) for key, seconds in taken.items()}


def _copy(device: torch.device) -> tuple[Callable[[], None], int]:
    """A copy of much memory, and the bytes that it reads and writes."""
    size = _GPU_COPY_BYTES if device.type == "cuda" else _COLD_BYTES
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2 * size


def _product(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], None], int]:
    """A large matrix product, and its operations."""
    size = 2048 if device.type == "cpu" else _GPU_SQUARE
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return lambda: a @ b, 2 * size**3


def _weights(config, dtype: torch.dtype, device: torch.device) -> tuple[dict[int, Callable[[], None]], int]:
    """The model's linear maps by token rows, and their bytes. Of a large model, as many layers as no cache holds."""
    model = _random_model(config, dtype, device, layers=_layers_enough(config, dtype))
    maps = forward_of(model).linear_maps
    return {rows: _products(maps, rows, dtype, device) for rows in ROWS}, sum(m.nbytes for m in maps)


def _products(maps: list[LinearMap], rows: int, dtype: torch.dtype, device: torch.device) -> Callable[[], None]:
    """All of the maps, one after the other, on so many rows."""
    inputs = {width: torch.ones(1, rows, width, dtype=dtype, device=device) for width in {m.in_features for m in maps}}

    def run():
        for m in maps:
            m(inputs[m.in_features])

    return run


def _attention(
    config, dtype: torch.dtype, device: torch.device, graphs: bool, batch: int, slots: int, queries: Sequence[int]
) -> tuple[dict[int, Callable[[], None]], int]:
    """Decode attention by queries, over caches of `batch` sequences, one a layer; and the bytes of these.

    It attends as steps do: those that are captured in kernels of their own, or by two products.
    """
    heads, kv_heads, size = _heads(config)
    shape = (batch, kv_heads, slots, size)
    layers = min(config.num_hidden_layers, 1 + _COLD_BYTES // (2 * batch * kv_heads * slots * size * dtype.itemsize))
    caches = [[torch.randn(shape, device=device).to(dtype) for _ in range(2)] for _ in range(layers)]
    module, runs = nn.Module().eval(), {}
    for number in queries:
        query = torch.randn(batch, heads, number, size, device=device).to(dtype)
        if graphs:
            runs[number] = partial(_attend_as_captured, caches, query)
            continue
        mask = grouped_mask(batch, torch.arange(number, device=device), slots, dtype=dtype, config=config)

        def run(query=query, mask=mask):
            for key, value in caches:
                grouped_attention(module, query, key, value, mask)

        runs[number] = run
    return runs, sum(x.nbytes for cache in caches for x in cache)


def _attend_as_captured(caches: Sequence[Sequence[Tensor]], query: Tensor) -> None:
    """Attention of `query`, (batch, heads, n, head size), over keys and values, as captured steps attend."""
    (_, kv_heads, slots, size), (_, heads, number, _) = caches[0][0].shape, query.shape
    mask = query.new_zeros(1, 1, heads // kv_heads * number, slots)
    for key, value in caches:
        if fuses(query.device):
            from specpress.engine.fused_kernels import attended  # needs Triton

            attended(query, [key, value], slots, mask, size**-0.5)
        else:
            key.captured = True  # tells `specpress.engine.attention`
            grouped_attention(None, query, key, value, mask)


def _thin_step(
    config, dtype: torch.dtype, device: torch.device, graphs: bool
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A step of a model as deep as this one and next to no width; and its linear maps alone."""
    thin = copy.deepcopy(config)
    heads, kv_heads, _ = _heads(config)
    groups = heads // kv_heads
    thin.num_attention_heads, thin.num_key_value_heads, thin.head_dim = 2 * groups, 2, 8
    thin.hidden_size = thin.intermediate_size = 16 * groups
    thin.vocab_size, thin.pad_token_id, thin.head_token_ids = 16, None, None
    thin.rope_parameters = {**thin.rope_parameters, "rope_type": "default"}  # others fit the head size alone
    model = _random_model(thin, dtype, device, layers=config.num_hidden_layers)
    model.set_attn_implementation(ATTENTION)
    use_graphs(model) if graphs else use_eager(model)
    token = torch.ones(1, 1, dtype=torch.long, device=device)
    cached = CachedModel(model, capacity=64)
    cached.feed(token.expand(1, 32))

    def step():
        cached.feed(token)
        cached.cache.rollback(1)

    return step, _products(cached.forward.linear_maps, 1, dtype, device)


def _random_model(config, dtype: torch.dtype, device: torch.device, *, layers: int) -> nn.Module:
    config = copy.deepcopy(config)
    config.update(with_layers(config, layers))
    return build_model(config, dtype=dtype).to(device)


def _layers_enough(config, dtype: torch.dtype) -> int:
    with torch.device("meta"):
        layer = _random_model(config, dtype, torch.device("meta"), layers=1)
    bytes_a_layer = sum(m.weight.nbytes for m in layer.base_model.layers.modules() if isinstance(m, nn.Linear))
    return min(config.num_hidden_layers, 1 + _COLD_BYTES // bytes_a_layer)


def _heads(config) -> tuple[int, int, int]:
    """(query heads, KV heads, head size)."""
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return heads, kv_heads, getattr(config, "head_dim", None) or config.hidden_size // heads
