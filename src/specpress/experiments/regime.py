"""Where a press pays: one-token steps on full and compressed caches over a grid of batch sizes and contexts.

A passage is prefilled once a context. Its cache is repeated over the rows of the batch: the time of a step depends on
how much is read, not on what is written there. The lossless fusion, self-speculation (the target drafts on its own
compressed cache), is put together for each cell from the measured costs of drafting and verifying, and from the tokens
an iteration yielded when text was really generated at that context.
"""

import statistics
from collections.abc import Callable

import torch
from tqdm import tqdm

from specpress.decoding.brackets import COLUMNS, bracketed
from specpress.drafters import CompressedTarget
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.compression import compress
from specpress.engine.observation import Observations
from specpress.experiments.assets import Assets, as_batch
from specpress.hardware.clock import clock, no_garbage_collection
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.presses import get_press
from specpress.schedules.base import Constant
from specpress.speculation.prefill import read
from specpress.speculation.rounds import speculate
from specpress.theory.parts import PRESSED, VERIFICATION

_ROOM = 64  # slots beyond the context, for the tokens fed while timing


def measure(spec: dict, assets: Assets) -> dict:
    """Every cell of the grid, with one value a repeat; repeats differ in their passage."""
    model, tokenizer = assets.model(spec["model"]), assets.tokenizer(spec["model"])
    cells = {(b, c): _cell(b, c) for c in spec["contexts"] for b in spec["batches"]}
    longest = max(spec["contexts"])
    passages = assets.passages(spec, count=spec["repeats"], length=longest, tokenizer=tokenizer)
    contexts = sorted(spec["contexts"], reverse=True)  # memory of the largest serves the smaller ones after them
    turns = [(passage, context) for passage in passages for context in contexts]
    with decode_attention(model):
        for number, (passage, context) in enumerate(tqdm(turns, desc=spec["id"], unit="context", mininterval=5)):
            prompt = as_batch([passage], model)[:, :context]
            _measure_context(spec, model, prompt, cells, seed=spec["seed"] + number)
    return {"cells": list(cells.values())}


def _cell(batch: int, context: int) -> dict:
    per_repeat = ("full_step_ms", "press_step_ms", "verify_step_ms", "self_token_ms", "self_tokens_per_iteration")
    brackets = {name: [] for name in COLUMNS}
    return {"batch": batch, "context": context, "skipped": None, "brackets": brackets, **{n: [] for n in per_repeat}}


def _measure_context(spec: dict, model, prompt: torch.Tensor, cells: dict, *, seed: int) -> None:
    """One repeat of every batch size at one context; appends to the cells."""
    full, pressed, first = _prefilled(model, prompt, spec["press"])
    yielded = _tokens_per_iteration(spec, full, torch.cat([prompt[0], first]).cpu(), seed)
    full.observations = None
    for batch in sorted(spec["batches"], reverse=True):
        cell = cells[batch, prompt.shape[1]]
        cell |= {"slots_full": full.cache.slots, "slots_press": pressed.cache.slots}
        cell |= {"kv_bytes_full": batch * full.cache.nbytes, "kv_bytes_press": batch * pressed.cache.nbytes}
        limit = spec.get("max_kv_bytes")
        if limit and cell["kv_bytes_full"] > limit:
            cell["skipped"] = f"a cache of {cell['kv_bytes_full']} bytes exceeds max_kv_bytes, {limit}"
            continue
        brackets = _step_times(spec, full.expanded(batch), pressed.expanded(batch), batch)
        for name, values in brackets.items():
            cell["brackets"][name] += values
        times = _medians(brackets)
        for name, milliseconds in times.items():
            cell[name].append(milliseconds)
        iteration = spec["gamma"] * times["press_step_ms"] + times["verify_step_ms"]
        cell["self_tokens_per_iteration"].append(yielded)
        cell["self_token_ms"].append(iteration / yielded)


def _prefilled(model, prompt: torch.Tensor, press: dict) -> tuple[CachedModel, CachedModel, torch.Tensor]:
    """The prompt on a full cache and on a copy compressed by the press, and the likeliest token after it."""
    full = CachedModel(model, prompt.shape[1] + _ROOM)
    full.observations = Observations(model)
    logits = read(full, prompt, get_press(**press))
    pressed = full.expanded(1)
    pressed.observations = None
    compress(pressed.cache, get_press(**press), full.observations)
    return full, pressed, logits[0, -1:].argmax(-1)


def _tokens_per_iteration(spec: dict, full: CachedModel, context: torch.Tensor, seed: int) -> float:
    """Tokens an iteration of self-speculation yields after the context, on the host; the cache is left as it was."""
    settings = {key: value for key, value in spec["sampling"].items() if key != "name"}
    sampling, randomness = SamplingParams(**settings, seed=seed), Randomness(seed)
    start, limit = len(context), len(context) + spec["max_new_tokens"]
    drafter, schedule = CompressedTarget(get_press(**spec["press"])), Constant(spec["gamma"])
    drafter.start(full.model, sampling, randomness, limit + spec["gamma"])
    drafter.prefilled(full, full.observations)
    rounds = 0
    while len(context) < limit:
        proposal = drafter.propose(context, schedule.gamma, schedule.stop)
        tokens = speculate(full, drafter, context, proposal, sampling, randomness, "token").tokens
        context, rounds = torch.cat([context, tokens]), rounds + 1
    full.rollback_to(start - 1)
    return (len(context) - start) / rounds


def _step_times(spec: dict, full: CachedModel, pressed: CachedModel, batch: int) -> dict[str, list]:
    """Steps on the compressed cache and verifications, each between two steps on the full one."""
    one = torch.ones(batch, 1, dtype=torch.long, device=full.model.device)
    block = one.expand(batch, spec["gamma"] + 1)
    parts = {
        (PRESSED, 1): lambda: _timed(lambda: pressed.feed(one), pressed),
        (VERIFICATION, spec["gamma"] + 1): lambda: _timed(lambda: full.feed(block, keep=block.shape[1]), full),
    }
    with no_garbage_collection():
        return bracketed(parts, lambda: _timed(lambda: full.feed(one), full), spec["steps"])


def _medians(brackets: dict[str, list]) -> dict[str, float]:
    """Median milliseconds of each kind of step."""
    seconds = {"full_step_ms": brackets["before"] + brackets["after"]}
    for name, part in (("press_step_ms", PRESSED), ("verify_step_ms", VERIFICATION)):
        seconds[name] = [s for s, p in zip(brackets["seconds"], brackets["part"], strict=True) if p == part]
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def _timed(step: Callable, cached: CachedModel) -> float:
    """Seconds of a step, which is then taken back."""
    length, started = cached.length, clock(cached.model.device)
    step()
    seconds = clock(cached.model.device) - started
    cached.rollback_to(length)
    return seconds
