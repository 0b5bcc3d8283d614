"""From the spec of an experiment to its metrics: the measuring itself.

Speed is paired: the cached autoregressive baseline and the method run alternately on the same prompts in one process,
so that drift of the machine cancels in their ratio.
"""

import gc
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from specpress.data import Passage, load_documents, sample_passages
from specpress.decoding import Generation, generate
from specpress.environment import describe, peak_memory_bytes
from specpress.models import load_model
from specpress.presses import get_press
from specpress.quality import perplexities
from specpress.registry import DRAFTERS, SCHEDULES, resolve
from specpress.sampling import SamplingParams
from specpress.theory import expected_speedup

SCHEMA = 1
_WARM_UP_TOKENS = 16


def run(spec: dict, *, models: dict[str, Path], data: dict[str, Path], threads: int) -> dict:
    """Run one experiment.

    Parameters
    ----------
    spec : dict, as `specpress.study.load_study` expands it
    models : directory of each model and draft the spec names
    data : directory of each data set the spec names
    threads : int, threads torch may use

    Returns
    -------
    dict, the metrics: spec, environment, raw observations. What could not be measured is None, with the reason.
    """
    torch.set_num_threads(threads)
    started = time.perf_counter()
    measure = {"speed": _measure_speed, "perplexity": _measure_perplexity}[spec["kind"]]
    measured, model = measure(spec, {name: _Loaded(path) for name, path in models.items()}, data)
    device, dtype = str(model.device), str(model.dtype).removeprefix("torch.")
    return {
        "schema": SCHEMA,
        "id": spec["id"],
        "kind": spec["kind"],
        "spec": spec,
        "environment": describe(threads=threads, device=device, dtype=dtype),
        "wall_seconds": time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(),
        **measured,
    }


class _Loaded:
    """A model directory, loaded when first asked for."""

    def __init__(self, path: Path):
        self._path, self._pair = path, None

    def __call__(self):
        if self._pair is None:
            self._pair = load_model(self._path)
        return self._pair


def _passages(spec: dict, data: dict[str, Path], tokenizer, count: int, length: int) -> list[Passage]:
    documents = load_documents(data[spec["data"]] / "test.jsonl")
    return sample_passages(documents, tokenizer, count=count, length=length, seed=spec["seed"])


# ---------------------------------------------------------------------------------------------------------------- speed


def _measure_speed(spec: dict, models: dict, data: dict[str, Path]) -> tuple[dict, torch.nn.Module]:
    """Pairs of runs, the losslessness check, theory and a sample of the text."""
    (baseline, tokenizer), (model, _) = models[spec["baseline"]](), models[spec["model"]]()
    passages = _passages(spec, data, tokenizer, spec["prompts"], spec["prompt_tokens"])
    options = {"max_new_tokens": spec["max_new_tokens"], "eos_token_id": tokenizer.eos_token_id}

    def run_baseline(tokens, sampling, **override) -> Generation:
        return generate(baseline, tokens, sampling=sampling, **{**options, **override})

    def run_method(tokens, sampling, **override) -> Generation:
        return generate(model, tokens, sampling=sampling, **_method(spec, models), **{**options, **override})

    pairs, texts = _run_pairs(spec, passages, run_baseline, run_method)
    prompt = passages[0].tokens
    measured = {
        "pairs": pairs,
        "lossless": _check_lossless(spec, baseline, passages, texts),
        "theory": _theory(spec, pairs),
        "sample": {
            "prompt": tokenizer.decode(prompt),
            "baseline": tokenizer.decode(texts[0][0]),
            "method": tokenizer.decode(texts[0][1]),
        },
    }
    return measured, baseline


def _method(spec: dict, models: dict) -> dict:
    """Fresh drafter and schedule for one `generate` call."""
    if "drafter" not in spec:
        return {}
    parameters = {key: value for key, value in spec["drafter"].items() if key != "name"}
    if "model" in parameters:
        parameters["model"] = models[parameters["model"]]()[0]
    schedule = {key: value for key, value in spec.get("schedule", {"name": "constant"}).items() if key != "name"}
    return {
        "drafter": resolve(DRAFTERS, spec["drafter"]["name"], "drafter")(**parameters),
        "schedule": resolve(SCHEDULES, spec.get("schedule", {"name": "constant"})["name"], "schedule")(**schedule),
        "verification": spec["verification"],
    }


def _run_pairs(spec: dict, passages: list[Passage], run_baseline: Callable, run_method: Callable):
    """Time both on every prompt; which goes first alternates. Returns the pairs and, a pair, both token lists."""
    pairs, texts = [], []
    settings = {key: value for key, value in spec["sampling"].items() if key != "name"}
    warm_up = torch.tensor([passages[0].tokens])
    for run_once in (run_baseline, run_method):
        run_once(warm_up, SamplingParams(**settings), max_new_tokens=min(_WARM_UP_TOKENS, spec["max_new_tokens"]))
    rounds = [(repeat, index) for repeat in range(spec["repeats"]) for index in range(len(passages))]
    for number, (repeat, index) in enumerate(tqdm(rounds, desc=spec["id"], unit="pair", mininterval=5)):
        passage = passages[index]
        tokens = torch.tensor([passage.tokens])
        sampling = SamplingParams(**settings, seed=spec["seed"] + 1000 * repeat + index)
        order = (run_baseline, run_method) if number % 2 == 0 else (run_method, run_baseline)
        with _no_garbage_collection():
            results = {run_once: run_once(tokens, sampling) for run_once in order}
        of_baseline, of_method = results[run_baseline], results[run_method]
        pairs.append(
            {
                "prompt": index,
                "document": passage.document,
                "offset": passage.offset,
                "repeat": repeat,
                "seed": sampling.seed,
                "prompt_tokens": len(passage.tokens),
                "baseline": _figures(of_baseline),
                "method": _figures(of_method),
            }
        )
        texts.append((of_baseline.tokens[0].tolist(), of_method.tokens[0].tolist()))
    return pairs, texts


@contextmanager
def _no_garbage_collection():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _figures(generation: Generation) -> dict:
    figures = {**generation.metrics(), "trace": generation.trace.columns()}
    if figures["tpot_ms"] is None:
        figures["why"] = "the text ended after its first token: there is no time per token"
    return figures


def _check_lossless(spec: dict, baseline, passages: list[Passage], texts: list) -> dict:
    """Greedy runs must give the baseline's tokens; a difference counts as a near tie only where the logits say so."""
    if spec["model"] != spec["baseline"]:
        return {
            "compared": None,
            "why": f"{spec['model']} is another model than {spec['baseline']}: its text differs by design",
        }
    if spec["sampling"]["temperature"] > 0:
        why = "sampled texts differ by design; that the sampled law is the target's is proved by the test suite"
        return {"compared": None, "why": why}
    verdicts = [_compare(baseline, passages[number % len(passages)].tokens, *pair) for number, pair in enumerate(texts)]
    return {"compared": len(verdicts), **{name: verdicts.count(name) for name in ("equal", "near_ties", "different")}}


def _compare(model, prompt: list[int], expected: list[int], got: list[int]) -> str:
    """ "equal"; "near_ties" if both tokens' logits at the first difference tie with the largest; else "different".

    Logits tie within two units of the model's precision at the row's largest magnitude: the plain forward, a step on
    the cache and a verification of several tokens round differently, by about that much.
    """
    if expected == got:
        return "equal"
    first = next((i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), None)
    if first is None:
        return "different"
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + expected[:first]]), logits_to_keep=1).logits[0, -1].float()
    tolerance = 2 * torch.finfo(model.dtype).eps * logits.abs().max()
    behind = logits.max() - logits[[expected[first], got[first]]]
    return "near_ties" if (behind <= tolerance).all() else "different"


def _theory(spec: dict, pairs: list[dict]) -> dict:
    """Acceptance and costs as measured in these very runs, and the speed-up they predict."""
    nothing = {"acceptance": None, "draft_cost": None, "verification_cost": None, "predicted_speedup": None}
    if "drafter" not in spec:
        return {**nothing, "why": "no drafter"}
    rounds = [
        dict(zip(trace, values, strict=True))
        for trace in (pair["method"]["trace"] for pair in pairs)
        for values in zip(*trace.values(), strict=True)
    ]
    drafting = [r for r in rounds if r["proposed"]]
    if not drafting:
        return {**nothing, "why": "the drafter proposed nothing"}
    accepted = sum(r["accepted"] for r in drafting)
    tested = accepted + sum(r["accepted"] < r["proposed"] for r in drafting)
    step = statistics.fmean(s for pair in pairs for s in pair["baseline"]["trace"]["seconds"])
    costs = {
        "acceptance": accepted / tested,
        "draft_cost": sum(r["draft_seconds"] for r in drafting) / sum(r["proposed"] for r in drafting) / step,
    }
    gamma = spec.get("schedule", {}).get("gamma")
    full = [r["seconds"] - r["draft_seconds"] for r in drafting if r["proposed"] == gamma]
    if spec.get("schedule", {}).get("name") != "constant" or spec["drafter"]["name"] == "prompt_lookup" or not full:
        return {**nothing, **costs, "why": "the formula needs the same number of proposals in every round"}
    cost = statistics.fmean(full) / step
    predicted = expected_speedup(costs["acceptance"], gamma, costs["draft_cost"], cost)
    return {**costs, "verification_cost": cost, "predicted_speedup": predicted}


# ----------------------------------------------------------------------------------------------------------- perplexity


def _measure_perplexity(spec: dict, models: dict, data: dict[str, Path]) -> tuple[dict, torch.nn.Module]:
    """Summed negative log-likelihoods a passage, for every ratio of the press; one prefill serves all ratios."""
    presses = [get_press(compression_ratio=ratio, **spec["press"]) for ratio in spec["ratios"]]
    model, tokenizer = models[spec["model"]]()
    passages = _passages(spec, data, tokenizer, spec["passages"], spec["context"] + spec["score"])
    curve = [{"ratio": ratio, "kv_bytes": None, "nll": [], "n_tokens": []} for ratio in spec["ratios"]]
    for passage in tqdm(passages, desc=spec["id"], unit="passage", mininterval=5):
        tokens = torch.tensor([passage.tokens])
        for point, result in zip(
            curve, perplexities(model, tokens, context=spec["context"], presses=presses), strict=True
        ):
            point["kv_bytes"] = result.kv_bytes
            point["nll"].append(result.nll)
            point["n_tokens"].append(result.n_tokens)
    where = [{"document": passage.document, "offset": passage.offset} for passage in passages]
    return {"passages": where, "curve": curve}, model
