"""Who takes part in the benchmarks: each contestant is a step of one token on a context, and is left as it was.

Steps of two contestants are taken in turn, the order alternating, and compared as neighbours: what disturbs the machine
for longer than a step disturbs both.
"""

import atexit
import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from specpress.engine.attention import decode_attention, grouped_attention
from specpress.engine.cached_model import CachedModel
from specpress.models.quantized import quantize_model

COPIED = 256 * 2**20  # bytes: more than any cache holds
Step = Callable[[], Tensor | None]  # the logits, where they are at hand


def ours(model: nn.Module, prompt: Tensor, new: int = 1) -> Step:
    """A forward of `new` tokens by this library's engine; prompt: LongTensor (batch, tokens)."""
    cached, tokens = CachedModel(model, prompt.shape[1] + new), prompt[:, :new]
    with decode_attention(model):
        cached.feed(prompt)

    def step() -> Tensor:
        with decode_attention(model):
            logits = cached.feed(tokens, keep=new)
        cached.rollback_to(prompt.shape[1])
        return logits

    return step


def transformers_step(model: nn.Module, prompt: Tensor) -> Step:
    """A forward of one token as transformers' `generate` makes it: `sdpa` attention, a DynamicCache, the last logits.

    What `generate` does around its forwards is left out, in its favour.
    """
    cache, options = DynamicCache(config=model.config), {"use_cache": True, "logits_to_keep": 1}
    with torch.inference_mode(), decode_attention(model, implementation="sdpa"):
        model(prompt, past_key_values=cache, **options)

    def step() -> Tensor:
        with torch.inference_mode(), decode_attention(model, implementation="sdpa"):
            logits = model(prompt[:, :1], past_key_values=cache, **options).logits
        cache.crop(prompt.shape[1])
        return logits

    return step


def llama_cpp(gguf: Path, prompt: Tensor, threads: int) -> Step | None:
    """A step of llama.cpp on a GGUF file, with its logits; None where llama-cpp-python is not installed."""
    if find_spec("llama_cpp") is None:
        return None
    from llama_cpp import Llama

    tokens = prompt[0].tolist()
    llama = Llama(str(gguf), n_ctx=len(tokens) + 8, n_threads=threads, n_threads_batch=threads, verbose=False)
    atexit.register(llama.close)  # later, when modules are gone, it fails with a traceback
    llama.eval(tokens)

    def step() -> None:
        llama.eval(tokens[:1])
        llama.n_tokens = len(tokens)  # its next `eval` drops what lies behind

    return step


def duel(name: str, first: Step, second: Step, goal: str, pairs: int = 24) -> dict:
    """A row: how many times as long a step of `second` takes as one of `first`; two of each warm up.

    Returns
    -------
    dict of `ratio`, the median over pairs of neighbours, `ends`, the order statistics that enclose the true median with
    95% confidence, and the median `milliseconds` of both, to be read beside it and not divided by each other
    """
    taken = _in_turn(first, second, pairs)
    ratios = sorted(b / a for a, b in zip(*taken, strict=True))
    found = {"name": name, "ratio": statistics.median(ratios), "ends": _order_ends(ratios), "goal": goal}
    return found | {"prompts": 1, "pairs": pairs, "milliseconds": [1e3 * statistics.median(series) for series in taken]}


def attention_rate(model: nn.Module, slots: int, passes: int = 24) -> dict:
    """A row: GB/s at which the attention of a step of one token reads keys and values of `slots` slots, of all layers.

    The goal is half of the rate at which this machine copies what no cache holds, reading and writing, or 15 GB/s.
    """
    config = model.config
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers = range(config.num_hidden_layers)
    shape = (1, kv_heads, slots, size)
    caches = [[torch.randn(shape, device=model.device).to(model.dtype) for _ in range(2)] for _ in layers]
    query = torch.randn(1, config.num_attention_heads, 1, size, device=model.device).to(model.dtype)
    source = torch.ones(COPIED // 4, device=model.device)
    target = torch.empty_like(source)

    def attend() -> None:
        for key, value in caches:
            grouped_attention(model, query, key, value, None)

    with torch.inference_mode():
        taken = _in_turn(attend, lambda: target.copy_(source), passes)
    nbytes = sum(part.nbytes for cache in caches for part in cache)
    rates = sorted(1e-9 * nbytes / seconds for seconds in taken[0])
    copy = 2e-9 * source.nbytes / statistics.median(taken[1])
    found = {"name": f"attention of a step at {slots} slots, GB/s", "ratio": statistics.median(rates)}
    return found | {
        "ends": _order_ends(rates),
        "goal": f">= {min(15.0, copy / 2):.1f}",
        "prompts": 1,
        "copy_gb_s": copy,
    }


def _in_turn(first: Callable, second: Callable, pairs: int) -> tuple[list[float], list[float]]:
    """Seconds of both, `pairs` of them, the order alternating; two of each warm up."""
    taken: tuple[list[float], list[float]] = [], []
    for pair in range(pairs + 2):
        for which in (0, 1) if pair % 2 else (1, 0):
            started = time.perf_counter()
            (first, second)[which]()
            taken[which].append(time.perf_counter() - started)
    return taken[0][2:], taken[1][2:]


def _order_ends(ordered: list[float]) -> list[float]:
    """The order statistics that enclose the true median with 95% confidence, by the normal law of the sign test."""
    rank = math.floor((len(ordered) - 1.96 * math.sqrt(len(ordered))) / 2)
    return [ordered[rank], ordered[-1 - rank]]


def rows(model: nn.Module, prompt: Callable[[int, int], Tensor], gguf: Path | None, threads: int) -> Iterator[dict]:
    """transformers' steps over ours by context and batch; ours in fewer bits over bfloat16 and over llama.cpp's.

    Parameters
    ----------
    prompt : (batch, tokens) -> LongTensor
    gguf : the model as a GGUF file, or None
    """
    for batch, length, goal in ((1, 64, 1.6), (1, 1024, 1.6), (1, 4096, 2.0), (8, 2048, 2.0)):
        tokens = prompt(batch, length)
        sides = ours(model, tokens), transformers_step(model, tokens)
        yield duel(f"step of transformers over ours, {batch} x {length} tokens", *sides, f">= {goal}")
    yield attention_rate(model, 4096)
    tokens = prompt(1, 64)
    four, eight = (ours(quantize_model(copy.deepcopy(model), weights), tokens) for weights in ("q4", "q8"))
    yield duel("step in q4 over one in bfloat16, 64 tokens", ours(model, tokens), four, "<= 0.5")
    yield duel("step in q8 over one in bfloat16, 64 tokens", ours(model, tokens), eight, "<= 1.0")
    theirs = llama_cpp(gguf, tokens, threads) if gguf else None
    if theirs is not None:
        yield duel("step in q4 over llama.cpp's, 64 tokens", theirs, four, "<= 1.5")
