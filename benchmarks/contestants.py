"""Who takes part in the benchmarks: each contestant is a step of one token on a context, and is left as it was.

Steps of two contestants are taken in turn, the order alternating, and compared as neighbours: what disturbs the machine
for longer than a step disturbs both.
"""

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

from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.models.quantized import quantize_model

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
    taken: tuple[list[float], list[float]] = [], []
    for pair in range(pairs + 2):
        for which in (0, 1) if pair % 2 else (1, 0):
            started = time.perf_counter()
            (first, second)[which]()
            taken[which].append(1e3 * (time.perf_counter() - started))
    kept = [series[2:] for series in taken]
    ratios = sorted(b / a for a, b in zip(*kept, strict=True))
    rank = math.floor((pairs - 1.96 * math.sqrt(pairs)) / 2)  # of the sign test, by the normal law
    ends = [ratios[rank], ratios[-1 - rank]]
    found = {"name": name, "ratio": statistics.median(ratios), "ends": ends, "goal": goal, "prompts": 1, "pairs": pairs}
    return found | {"milliseconds": [statistics.median(series) for series in kept]}


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
    tokens = prompt(1, 64)
    four, eight = (ours(quantize_model(copy.deepcopy(model), weights), tokens) for weights in ("q4", "q8"))
    yield duel("step in q4 over one in bfloat16, 64 tokens", ours(model, tokens), four, "<= 0.5")
    yield duel("step in q8 over one in bfloat16, 64 tokens", ours(model, tokens), eight, "<= 1.0")
    theirs = llama_cpp(gguf, tokens, threads) if gguf else None
    if theirs is not None:
        yield duel("step in q4 over llama.cpp's, 64 tokens", theirs, four, "<= 1.5")
