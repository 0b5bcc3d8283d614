"""Is this library right on a GPU, and what does it cost there? A check of some six minutes, expected beside measured.

It needs the library and torch alone: no workflow, no hub. Models are random weights of Pythia's shapes, made on the
device, their output heads scaled until the logits have a standard deviation of 4, so that laws look like those of text.
The expectations are for an H100, from a desk check. Correctness decides the exit code; costs are for reading.

    python benchmarks/gpu_check.py --output gpu_check.json
    python benchmarks/gpu_check.py --only logits,steps --seconds 120
    python benchmarks/gpu_check.py --device cpu --tiny      (the script itself, on any machine, in seconds)
"""

import argparse
import copy
import json
import math
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import GPTNeoXConfig

from specpress import SamplingParams, generate, load_model, perplexity
from specpress.decoding.uncached import generate_uncached
from specpress.drafters import Cascade, CompressedTarget, DraftModel, PromptLookup
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.graphs import SIZES, CudaGraphs, StaticSteps, buckets, captures, use_eager, use_graphs
from specpress.hardware.clock import clock
from specpress.hardware.devices import exact_kernels
from specpress.hardware.environment import describe
from specpress.laws import engines
from specpress.laws.device import DeviceLaws
from specpress.laws.law import Laws
from specpress.laws.sampling import Randomness
from specpress.models.build import build_model, from_gguf
from specpress.presses import get_press
from specpress.schedules import AIMD, Confidence, Constant
from specpress.speculation.device_verification import verify_on_device
from specpress.speculation.verification import verify
from specpress.study.memory import estimate
from specpress.theory.shapes import shape_of

GREEDY, SAMPLED = SamplingParams(temperature=0), SamplingParams(temperature=0.85, top_p=0.9)
GAMMA = 4
# (layers, hidden size, heads); the vocabulary is Pythia's
SHAPES = {"2.8B": (32, 2560, 32), "410M": (24, 1024, 16), "70M": (6, 512, 8)}
TINY_SHAPES = {"2.8B": (3, 64, 4), "410M": (2, 32, 4), "70M": (1, 32, 4)}
# milliseconds of a step on an H100, float16, batch 1: (as a graph, eager)
STEP_MS = {"2.8B": ((3.0, 3.8), (5.0, 6.5)), "410M": ((1.4, 1.7), (4.0, 5.0)), "70M": ((0.35, 0.45), (1.0, 1.3))}


@dataclass
class Row:
    """A line of the table; `right` is None for what is a cost and not a question of right or wrong."""

    name: str
    expected: str
    measured: str
    value: float | None = None
    right: bool | None = None


class OutOfTime(Exception):
    """The budget of seconds is spent."""


class Check:
    """The device, the sizes, the models made so far, and the time that is left."""

    def __init__(self, device: torch.device, tiny: bool, seconds: float, model: Path | None):
        self.device, self.tiny, self.real = device, tiny, model
        self.cuda = device.type == "cuda"
        self.dtype = torch.float16 if self.cuda else torch.float32
        self.shapes = TINY_SHAPES if tiny else SHAPES
        self.vocabulary = 211 if tiny else 50304
        self.slots = (24, 100, 200) if tiny else (64, 512, 1900)
        self.repeats = 2 if tiny else 20
        self.deadline = time.monotonic() + seconds
        self._models: dict[str, nn.Module] = {}

    def time_left(self) -> None:
        """Raise OutOfTime if there is none."""
        if time.monotonic() > self.deadline:
            raise OutOfTime

    def config(self, name: str) -> GPTNeoXConfig:
        layers, hidden, heads = self.shapes[name]
        return neox(layers, hidden, heads, self.vocabulary)

    def model(self, name: str) -> nn.Module:
        """A model of Pythia's shape, made once."""
        if name not in self._models:
            with torch.device(self.device):
                torch.manual_seed(0)
                model = build_model(self.config(name), dtype=self.dtype)
            self._models[name] = scaled(model)
        return self._models[name]

    def keep_only(self, *names: str) -> None:
        """Give back the other models, and what was captured on these."""
        self._models = {name: model for name, model in self._models.items() if name in names}
        for model in self._models.values():
            use_eager(model)
        if self.cuda:
            torch.cuda.empty_cache()

    def graphs(self, *models: nn.Module) -> None:
        """Steps as graphs, all captured ahead; without CUDA the same steps, run anew each time."""
        for model in models:
            if self.cuda:
                use_graphs(model, ahead=True)
            else:
                model.static_steps = StaticSteps(lambda step: step, ahead=True)

    def prompt(self, length: int, *, seed: int = 0, vocabulary: int | None = None) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(2, vocabulary or self.vocabulary, (1, length), generator=generator)

    def ms(self, run: Callable[[], object], repeats: int | None = None) -> float:
        """Median milliseconds of a call, the device synchronised before and after."""
        taken = []
        for _ in range(2 + (repeats or self.repeats)):
            started = clock(self.device)
            run()
            taken.append(clock(self.device) - started)
        return 1e3 * statistics.median(taken[2:])

    def streamed_ms(self, run: Callable[[], object], repeats: int | None = None) -> float:
        """Milliseconds of a call among many that nobody waits for."""
        count = repeats or self.repeats
        run()
        started = clock(self.device)
        for _ in range(count):
            run()
        return 1e3 * (clock(self.device) - started) / count

    def replayed_ms(self, run: Callable[[], Tensor]) -> float:
        """Milliseconds of a call among 32 in a replayed graph, as in the layers of a step; without CUDA just of it."""
        if not self.cuda:
            return self.streamed_ms(run)
        with torch.inference_mode():
            return self.streamed_ms(CudaGraphs(self.device)(lambda: [run() for _ in range(32)][-1])) / 32


def neox(layers: int, hidden: int, heads: int, vocabulary: int) -> GPTNeoXConfig:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}
    sizes = {"hidden_size": hidden, "intermediate_size": 4 * hidden, "num_attention_heads": heads}
    return GPTNeoXConfig(
        vocab_size=vocabulary, num_hidden_layers=layers, max_position_embeddings=2048, rope_parameters=rope,
        tie_word_embeddings=False, bos_token_id=0, eos_token_id=0, **sizes,
    )  # fmt: skip


@torch.inference_mode()
def scaled(model: nn.Module) -> nn.Module:
    """The model with its output head scaled until its logits have a standard deviation of 4."""
    with decode_attention(model):
        tokens = torch.arange(2, 34)[None] % model.config.vocab_size
        spread = CachedModel(model, 64).feed(tokens, keep=32).float().std()
    model.get_output_embeddings().weight.data.mul_(4 / float(spread))
    return model


@contextmanager
def laws_on(kind: str, where: str) -> Iterator[None]:
    """Laws of logits on devices of a kind are made there ("device") or on the host."""
    before = dict(engines.ENGINES)
    engines.ENGINES.pop(kind, None)
    if where == "device":
        engines.ENGINES[kind] = DeviceLaws
    try:
        yield
    finally:
        engines.ENGINES.clear()
        engines.ENGINES.update(before)


# ---------------------------------------------------------------------------------------------------------- correctness


def methods(target: nn.Module, draft: nn.Module, part: nn.Module) -> dict[str, Callable[[], dict]]:
    """Ways of decoding, as options of `generate`; each call gives fresh drafters and schedules."""
    half = {"compression_ratio": 0.5}
    return {
        "autoregressive": lambda: {},
        "draft model, gamma 4": lambda: {"drafter": DraftModel(draft), "schedule": Constant(GAMMA)},
        "draft model, AIMD": lambda: {"drafter": DraftModel(draft), "schedule": AIMD(cap=24)},
        "draft model, block verification": lambda: {"drafter": DraftModel(draft), "verification": "block"},
        "draft model, confidence": lambda: {"drafter": DraftModel(draft), "schedule": Confidence(0.3)},
        "draft with part of a head": lambda: {"drafter": DraftModel(part), "schedule": Constant(2)},
        "prompt lookup": lambda: {"drafter": PromptLookup(2)},
        "compressed target": lambda: {"drafter": CompressedTarget(get_press("streaming_llm", **half))},
        "compressed target, renewed": lambda: {"drafter": CompressedTarget(get_press("knorm", **half), interval=16)},
        "cascade": lambda: {"drafter": Cascade(draft, DraftModel(part), gamma=2, rounds=2)},
        "press": lambda: {"press": get_press("knorm", **half)},
        "press under a budget": lambda: {
            "press": get_press("streaming_llm", **half), "cache_budget": 128, "compression_interval": 16,
        },
    }  # fmt: skip


def tiny_models() -> list[nn.Module]:
    """On the CPU, float32: a target, a draft close to it, the draft with a head over every second token."""
    torch.manual_seed(1)
    target = scaled(build_model(neox(3, 64, 4, 97), dtype=torch.float32))
    draft = copy.deepcopy(target)
    for parameter in draft.parameters():
        parameter.data += 0.05 * parameter.data.std() * torch.randn_like(parameter) if parameter.dim() > 1 else 0
    part = copy.deepcopy(draft)
    head = nn.Linear(64, 49, bias=False)
    head.weight = nn.Parameter(draft.get_output_embeddings().weight.data[::2].clone())
    part.set_output_embeddings(head)
    part.head_token_ids = torch.arange(0, 97, 2)
    return [target, draft, part]


def tiny(check: Check) -> Iterator[Row]:
    """Every way of decoding on tiny float32 models: the CPU's tokens, eager and as graphs, laws here and there."""
    here = tiny_models()
    there = [copy.deepcopy(model).to(check.device) for model in here]
    prompt, new = check.prompt(246, vocabulary=97), 12 if check.tiny else 48
    samplings = [SAMPLED] if check.tiny else [GREEDY, SAMPLED]
    wrong: dict[str, list[str]] = {"eager, laws on the host": [], "eager": [], "graphs": []}
    for name, options in methods(*here).items():
        for sampling in samplings:
            check.time_left()
            use_all(use_eager, here)
            with laws_on("cpu", "host"):
                expected = generate(here[0], prompt, **options(), max_new_tokens=new, sampling=sampling).tokens
            for how, failed in wrong.items():
                use_all(use_eager if how != "graphs" else check.graphs, there)
                with laws_on(check.device.type, "host" if "host" in how else "device"):
                    again = methods(*there)[name]()
                    if why := differs(there[0], prompt, expected, **again, max_new_tokens=new, sampling=sampling):
                        failed.append(f"{name} ({why})")
    count = len(methods(*here)) * len(samplings)
    for how, failed in wrong.items():
        measured = f"{count - len(failed)} of {count}" + "".join(f"; {why}" for why in failed)
        yield Row(f"texts as on the CPU, {how}", f"{count} of {count}", measured, len(failed), not failed)
    yield from tiny_others(check, here, there, prompt)


def use_all(switch: Callable[[nn.Module], object], models: list[nn.Module]) -> None:
    for model in models:
        switch(model)


def differs(model: nn.Module, prompt: Tensor, expected: Tensor, **settings) -> str | None:
    """Where a text first differs from the expected one, or why it could not be generated; None if it does not."""
    try:
        found = generate(model, prompt, **settings).tokens.cpu()
    except Exception as error:  # the other ways of decoding are still to be checked
        traceback.print_exc()
        return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
    places = (found[0] != expected[0]).nonzero()
    return f"from token {int(places[0])}" if len(places) else None


def tiny_others(check: Check, here: list[nn.Module], there: list[nn.Module], prompt: Tensor) -> Iterator[Row]:
    """Batches, padding, the uncached protocol and perplexity."""
    for model in (*here, *there):
        use_eager(model)
    rows = torch.cat([check.prompt(20, seed=seed, vocabulary=97) for seed in range(3)])
    mask = torch.ones_like(rows)
    mask[1, :7] = 0
    runs = {
        "a batch": lambda models: generate(models[0], rows, max_new_tokens=12, sampling=SAMPLED).tokens,
        "a padded batch that drafts": lambda models: (
            generate(models[0], rows, max_new_tokens=12, attention_mask=mask, drafter=DraftModel(models[1])).tokens
        ),
        "the uncached protocol": lambda models: (
            generate_uncached(
                models[0], rows[:1], max_new_tokens=8, drafter_model=models[1], normalise_prefix=True
            ).tokens
        ),
    }
    for name, run in runs.items():
        same = torch.equal(run(there).cpu(), run(here))
        yield Row(f"texts as on the CPU, {name}", "equal", "equal" if same else "different", None, same)
    text = check.prompt(160, seed=5, vocabulary=97)
    for name, options in {
        "no press": {},
        "a press": {"press": get_press("knorm", compression_ratio=0.5)},
        "a budget": {"press": get_press("streaming_llm"), "cache_budget": 64, "compression_interval": 8},
    }.items():
        ppl = [perplexity(models[0], text, context=100, **options).ppl for models in (here, there)]
        off = abs(ppl[1] / ppl[0] - 1)
        yield Row(f"perplexity over the CPU's, {name}", "1 to 1e-4", f"1 to {off:.1e}", off, off < 1e-4)


def laws(check: Check) -> Iterator[Row]:
    """The laws of one and the same logits, on the host and on the device, and verification under both."""
    generator = torch.Generator().manual_seed(0)
    gamma, rounds = GAMMA, 4 if check.tiny else 60
    samplings = {"temperature 0.85, top-p 0.9": SAMPLED, "top-k 50": SamplingParams(top_k=50)}
    for name, sampling in {**samplings, "plain": SamplingParams()}.items():
        off, different, verdicts = 0.0, 0, 0
        for seed in range(rounds):
            check.time_left()
            logits = 4 * torch.randn(gamma + 1, check.vocabulary, generator=generator)
            near = logits[:gamma] + torch.randn(gamma, check.vocabulary, generator=generator)
            logits, near = (x.to(check.device, check.dtype) for x in (logits, near))
            ours, theirs = DeviceLaws(logits, sampling), Laws(logits, sampling)
            dense = torch.tensor(theirs[0].dense(check.vocabulary))
            off = max(off, float((ours.mass[0].cpu() - dense).abs().max()))
            one, other = Randomness(seed), Randomness(seed)
            draft, draft_there = Laws(near, sampling), DeviceLaws(near, sampling)
            drafted = draft.take(one)
            different += int(not torch.equal(draft_there.draw(other).tokens.cpu(), drafted))
            method = ("token", "block")[seed % 2]
            expected = verify(method, theirs, draft, drafted.tolist(), one)
            found = verify_on_device(method, ours, draft_there, drafted, other)
            verdicts += found != (expected.accepted, [*drafted[: expected.accepted].tolist(), expected.token])
        yield Row(f"largest difference of a mass, {name}", "<= 1e-12", f"{off:.1e}", off, off <= 1e-12)
        yield Row(f"rounds drafted otherwise, {name}", f"0 of {rounds}", f"{different}", different, not different)
        yield Row(f"rounds decided otherwise, {name}", f"0 of {rounds}", f"{verdicts}", verdicts, not verdicts)


def ulps(a: Tensor, b: Tensor, dtype: torch.dtype) -> float:
    """The largest difference of two rows of logits, in units of the last place of the row's largest."""
    largest = b.float().abs().amax(-1)
    ulp = torch.finfo(dtype).eps * torch.exp2(largest.log2().floor())
    return float(((a.float() - b.float()).abs().amax(-1) / ulp).max())


def script_of(size: int) -> list[int]:
    """Tokens to feed (n > 0) and take back (n < 0): steps after one another and after rollbacks, size + 1 at most."""
    return [size, -size, size, 1, -(size + 1), max(1, size - 1), 1]


def fed(cached: CachedModel, tokens: Tensor, script: list[int]) -> list[Tensor]:
    logits = []
    for n in script:
        if n < 0:
            cached.rollback_to(cached.length + n)
        else:
            logits.append(cached.feed(tokens[:, cached.length : cached.length + n], keep=n))
    return logits


def logits(check: Check) -> Iterator[Row]:
    """Graph against eager logits of the largest shape: all sizes and buckets, after rollbacks, two caches in turn."""
    model = check.model("2.8B")
    capacity = 600 if check.tiny else 2030
    tokens = check.prompt(capacity, seed=3)
    last = capacity - SIZES[-1] - 1
    starts = [8, *(min(bucket - 10, last) for bucket in buckets(capacity))]  # across the ends of buckets
    limit, worst, noise, flips, steps = 4.0, dict.fromkeys(SIZES, 0.0), 0.0, 0, 0
    with decode_attention(model), torch.inference_mode():
        runs = {}
        for how in ("eager", "graph"):
            use_eager(model) if how == "eager" else check.graphs(model)
            caches = [CachedModel(model, capacity) for _ in range(2)]
            for start in starts:
                check.time_left()
                for cached in caches:
                    cached.rollback_to(min(cached.length, start))
                    while cached.length < start:
                        cached.feed(tokens[:, cached.length : min(start, cached.length + 512)])
                for size in SIZES:
                    for turn, cached in enumerate(caches):
                        runs[how, start, size, turn] = fed(cached, tokens, script_of(size))
                        cached.rollback_to(start)
            if how == "eager":  # the model's own noise: as many tokens at once, and one by one
                together = caches[0].feed(tokens[:, start : start + 5], keep=5)
                caches[0].rollback_to(start)
                alone = torch.cat([caches[0].feed(tokens[:, i : i + 1]) for i in range(start, start + 5)], 1)
                noise = ulps(together, alone, check.dtype)
    for (how, start, size, turn), found in runs.items():
        if how == "graph":
            for a, b in zip(found, runs["eager", start, size, turn], strict=True):
                worst[size] = max(worst[size], ulps(a, b, check.dtype))
                flips += int((a.argmax(-1) != b.argmax(-1)).sum())
                steps += a.shape[1]
    limit = max(limit, 2 * noise)
    for size, off in worst.items():
        name = f"graph against eager, {size} queries, {len(starts)} contexts, ulp"
        yield Row(name, "<= 4, or twice the noise", f"{off:.1f}", off, off <= limit)
    yield Row("noise: five at once against one by one, eager, ulp", "about 1 to 3", f"{noise:.1f}", noise)
    yield Row("steps with another likeliest token", "near ties only", f"{flips} of {steps}", flips)


# ---------------------------------------------------------------------------------------------------------------- costs


def versions(check: Check) -> Iterator[Row]:
    found = environment(check)
    for name in ("accelerator", "cpu", "platform"):
        yield Row(name, "", str(found.get(name)))
    for name, value in {**found.get("packages", {}), **found.get("settings", {})}.items():
        yield Row(name, "", str(value))


def steps(check: Check) -> Iterator[Row]:
    """Steps of the three shapes, eager and as graphs, by queries and slots."""
    queries = (1, 5) if check.tiny else (1, 2, 5, 9)
    for name in check.shapes:
        model = check.model(name)
        for how, expected in zip(("graph", "eager"), STEP_MS[name], strict=True):
            check.graphs(model) if how == "graph" else use_eager(model)
            took: dict[tuple[int, int], float] = {}
            with decode_attention(model), torch.inference_mode():
                cached = CachedModel(model, max(check.slots) + 64)
                for slots in check.slots:
                    check.time_left()
                    cached.feed(check.prompt(slots - cached.length))
                    for n in queries:
                        took[n, slots] = check.ms(lambda n=n, cached=cached: one_step(cached, n))
                waited = check.streamed_ms(lambda cached=cached: one_step(cached, 1))
            first = check.slots[1]
            low, high = expected
            one = took[1, first]
            yield Row(f"{name}, {how}, 1 query, {first} slots, ms", f"{low} to {high}", f"{one:.3f}", one)
            yield Row(f"{name}, {how}, the same when nobody waits, ms", "", f"{waited:.3f}", waited)
            others = "; ".join(f"{n} x {s}: {ms:.3f}" for (n, s), ms in took.items())
            yield Row(f"{name}, {how}, queries x slots, ms", "", others)
            share = took[5, first] / one
            yield Row(f"{name}, {how}, five queries over one", "<= 1.10", f"{share:.2f}", share)
            del cached
        use_eager(model)


def one_step(cached: CachedModel, queries: int) -> None:
    cached.feed(torch.full((1, queries), 7), keep=queries)
    cached.cache.rollback(queries)


def rounds(check: Check) -> Iterator[Row]:
    """Rounds of speculation, by their parts, laws on the device and on the host; and what is left outside the steps."""
    new, prompt = (12, check.prompt(40)) if check.tiny else (96, check.prompt(512))
    target = check.model("2.8B")
    settings = {"max_new_tokens": new, "sampling": SAMPLED}
    for name in ("70M", "410M"):
        draft = check.model(name)
        check.graphs(target, draft)
        plain = {m: graph_ms(check, m, prompt.shape[1]) for m in ("2.8B", name)}
        made = {
            "autoregressive": lambda: {},
            "gamma 4": lambda draft=draft: {"drafter": DraftModel(draft), "schedule": Constant(GAMMA)},
            "AIMD": lambda draft=draft: {"drafter": DraftModel(draft), "schedule": AIMD()},
            "lookup": lambda: {"drafter": PromptLookup()},
        }
        for where in ("device", "host"):
            with laws_on(check.device.type, where):
                for method, options in made.items():
                    check.time_left()
                    if (where, name) != ("device", "70M") and method in ("AIMD", "lookup"):
                        continue
                    generate(target, prompt, **options(), **settings)  # captures belong here
                    before = captures([target, draft])
                    trace = generate(target, prompt, **options(), **settings).trace
                    grown = captures([target, draft]) - before
                    yield from described(f"{name}, {method}, laws on the {where}", trace, plain, name, method)
                    said = f"{name}, {method}: captures in the timed run"
                    yield Row(said, "0", str(grown), grown, not grown)
    cold = time.perf_counter()
    check.graphs(target)
    generate(target, prompt, **settings)
    count = captures([target])
    each = (time.perf_counter() - cold) / max(1, count)
    yield Row("2.8B, a capture, s", "0.10 to 0.15", f"{each:.3f} ({count} in all)", each)


def described(name: str, trace, plain: dict[str, float], draft: str, method: str) -> Iterator[Row]:
    """The median round of a trace, and its share outside the steps of the models, as replayed without waiting."""
    rounds_ = trace.iterations[1:]
    whole = 1e3 * statistics.median(i.seconds for i in rounds_)
    drafting = 1e3 * statistics.median(i.draft_seconds for i in rounds_)
    proposed = statistics.fmean(i.proposed for i in rounds_)
    steps_ms = plain["2.8B"] + (0 if method == "lookup" else proposed * plain[draft])
    outside = 1 - steps_ms / whole
    accepted = sum(i.accepted for i in trace.iterations) / max(1, sum(i.proposed for i in trace.iterations))
    parts = f"{whole:.3f} = {drafting:.3f} + {whole - drafting:.3f}; {proposed:.1f} drafted, {accepted:.0%} accepted"
    yield Row(f"{name}: drafting + verifying, ms", "", parts, whole)
    yield Row(f"{name}: share outside the steps", "<= 5%", f"{outside:.1%}", outside)


def graph_ms(check: Check, name: str, slots: int) -> float:
    """Milliseconds of one step of a model, replayed without waiting."""
    model = check.model(name)
    with decode_attention(model), torch.inference_mode():
        cached = CachedModel(model, slots + 200)
        cached.feed(check.prompt(slots))
        return check.streamed_ms(lambda: one_step(cached, 1))


def law_costs(check: Check) -> Iterator[Row]:
    """What the law of a token costs, by its parts, for one row and for five."""
    sampling, randomness = SAMPLED, Randomness(0)
    with torch.inference_mode():
        for n in (1, GAMMA + 1):
            row = (4 * torch.randn(n, check.vocabulary)).to(check.device, check.dtype)
            law = torch.softmax(row.float() / 0.85, -1)
            made = DeviceLaws(row, sampling)
            drafted = made.draw(randomness).tokens[:-1]
            parts = {
                "softmax": lambda row=row: torch.softmax(row.float() / 0.85, -1),
                "sort": lambda law=law: law.sort(dim=-1, descending=True, stable=True),
                "law": lambda row=row: DeviceLaws(row, sampling),
                "draw": lambda made=made: made.draw(randomness),
            }
            if n > 1:
                parts["verification"] = lambda made=made, drafted=drafted: verify_on_device(
                    "token", made, made[:-1], drafted, randomness
                )
            took = {name: check.streamed_ms(run, 3 if check.tiny else 50) for name, run in parts.items()}
            text = ", ".join(f"{name} {ms:.3f}" for name, ms in took.items())
            yield Row(f"on the device, {n} rows, ms", "0.05 to 0.15 a law", text, took["law"])
            host = check.ms(lambda row=row: Laws(row, sampling).draw(randomness))
            yield Row(f"on the host, {n} rows, ms", "0.15 to 0.45 a law", f"{host:.3f}", host)


def kernels(check: Check) -> Iterator[Row]:
    """Kernels a layer, and the share of a step and of a round in which the GPU computes."""
    if not check.cuda:
        yield Row("kernels a layer", "18 to 24", "only on CUDA")
        return
    for name in ("2.8B", "70M"):
        model = check.model(name)
        for how in ("graph", "eager"):
            check.time_left()
            check.graphs(model) if how == "graph" else use_eager(model)
            with decode_attention(model), torch.inference_mode():
                cached = CachedModel(model, 700)
                cached.feed(check.prompt(512))
                wall = check.ms(lambda cached=cached: one_step(cached, 1))
                count, busy = profiled(lambda cached=cached: one_step(cached, 1))
            layers = check.shapes[name][0]
            expected = "18 to 24" if how == "eager" else "20 to 26"
            yield Row(f"{name}, {how}: kernels a layer", expected, f"{count / layers:.1f}", count / layers)
            said = f"{busy:.3f} of {wall:.3f} ms ({busy / wall:.0%})"
            yield Row(f"{name}, {how}: the GPU computes", "", said, busy / wall)
    target, draft, prompt = check.model("2.8B"), check.model("70M"), check.prompt(512)
    check.graphs(target, draft)

    def run(new: int):
        options = {"drafter": DraftModel(draft), "schedule": Constant(GAMMA), "sampling": SAMPLED}
        return generate(target, prompt, max_new_tokens=new, **options).trace

    run(48)
    before = run(48)
    wall = 1e3 * (before.prefill_seconds + sum(i.seconds for i in before.iterations))
    count, busy = profiled(lambda: run(48))
    share = busy / wall
    said = f"{busy:.1f} of {wall:.1f} ms ({share:.0%})"
    yield Row("gamma 4, 70M draft: the GPU computes", ">= 90%", said, share)


def profiled(run: Callable[[], object]) -> tuple[int, float]:
    """Kernels of a call, and the milliseconds they take together."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    run()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    ours = [e for e in profiler.events() if e.device_type == DeviceType.CUDA]
    return len(ours), 1e-3 * sum(e.time_range.elapsed_us() for e in ours)


def rates(check: Check) -> Iterator[Row]:
    """Bytes copied and products multiplied a second."""
    size = 2**20 if check.tiny else 2**31
    source = torch.ones(size // 4, device=check.device)
    target = torch.empty_like(source)
    copied = 2e-9 * size / (1e-3 * check.streamed_ms(lambda source=source, target=target: target.copy_(source)))
    yield Row("copy of 2 GiB, read and written, GB/s", "2600 to 3000", f"{copied:.0f}", copied)
    del source, target
    n = 64 if check.tiny else 8192
    a, b = (torch.randn(n, n, device=check.device).to(check.dtype) for _ in range(2))
    product = 2e-12 * n**3 / (1e-3 * check.streamed_ms(lambda: a @ b))
    yield Row("product of 8192 x 8192, TFLOP/s", "500 to 800", f"{product:.2f}", product)


def memory(check: Check) -> Iterator[Row]:
    """Peak of a speculative generation against what the study estimates."""
    check.keep_only("2.8B", "70M")
    target, draft = check.model("2.8B"), check.model("70M")
    length, new = (40, 12) if check.tiny else (1536, 96)
    sizes = {}
    for name in ("2.8B", "70M"):
        shape, dtype = shape_of(check.config(name).to_dict()), str(check.dtype).removeprefix("torch.")
        sizes[name] = {**shape.size(dtype), "dtype": dtype}
    spec = {"kind": "speed", "model": "2.8B", "baseline": "2.8B", "drafter": {"name": "draft_model", "model": "70M"}}
    spec |= {"prompt_tokens": length, "max_new_tokens": new, "batch": 1}
    expected = sum(estimate(spec, sizes, check.device.type).values())
    if not check.cuda:
        yield Row("peak over the estimate", "0.6 to 1", "only on CUDA")
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    check.graphs(target, draft)
    free = torch.cuda.mem_get_info()[0]
    for options in ({}, {"drafter": DraftModel(draft)}):
        generate(target, check.prompt(length), max_new_tokens=new, sampling=SAMPLED, **options)
    torch.cuda.empty_cache()
    kept, count = free - torch.cuda.mem_get_info()[0], captures([target, draft])
    held = sum(b.nbytes for m in (target, draft) for a in m.static_steps.arenas for layer in a.buffers for b in layer)
    each = (kept - held) / 1e6 / max(1, count)
    yield Row("of a captured step beside the caches, MB", "1 to 10", f"{each:.1f} ({count} of them)", each)
    peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    share = peak / expected
    measured = f"{share:.2f} ({peak / 1e9:.2f} GB, reserved {reserved / 1e9:.2f}, estimate {expected / 1e9:.2f})"
    yield Row("peak over the estimate", "0.6 to 1", measured, share, share <= 1)


def attention(check: Check) -> Iterator[Row]:
    """One layer's attention of the largest shape: a length met for the first time, again, and replayed in a graph."""
    for queries, slots in ((1, 512), (1, 2048), (5, 2048)):
        for name in attentions(check):
            check.time_left()
            fresh = []
            try:
                for length in (slots - 32, slots - 16, slots):
                    run = partial(attentions(check)[name], *attention_inputs(check, queries, length))
                    started = clock(check.device)
                    run()
                    fresh.append(1e3 * (clock(check.device) - started))
                again = check.streamed_ms(run)
                replayed = check.replayed_ms(run) if name != "cudnn" else math.nan  # it may plan while captured
            except RuntimeError as error:
                yield Row(f"{name}, {queries} x {slots}", "", f"refused: {str(error).splitlines()[0][:60]}")
                continue
            expected = {"cudnn": "fresh 20 to 40"}.get(name, "replayed 0.01 to 0.03")
            measured = f"{max(fresh[1:]):.3f} fresh, {again:.4f} again, {replayed:.4f} replayed"
            yield Row(f"{name}, {queries} x {slots}, ms", expected, measured, replayed)


def attentions(check: Check) -> dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]]:
    """Ways to attend; torch's fused kernels with a mask, as a graph needs it, and without where they take none."""

    def fused(backend: SDPBackend, masked: bool, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask if masked else None)

    ways = {"math": partial(fused, SDPBackend.MATH, True), "two products": two_products}
    if check.cuda:
        ways |= {
            "flash, no mask": partial(fused, SDPBackend.FLASH_ATTENTION, False),
            "memory-efficient": partial(fused, SDPBackend.EFFICIENT_ATTENTION, True),
            "cudnn": partial(fused, SDPBackend.CUDNN_ATTENTION, False),
        }
        ways |= {f"memory-efficient, slots in {parts} parts": partial(divided, parts) for parts in (4, 8, 16)}
    return ways


def attention_inputs(check: Check, queries: int, slots: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    heads, size = (4, 16) if check.tiny else (32, 80)
    shapes = ((1, heads, queries, size), (1, heads, slots, size), (1, heads, slots, size))
    q, k, v = (torch.randn(shape, device=check.device).to(check.dtype) for shape in shapes)
    return q, k, v, torch.zeros(1, 1, queries, slots, device=check.device, dtype=check.dtype)


def two_products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(2, 3)) + mask
    return torch.matmul(torch.softmax(scores, -1), v)


def divided(parts: int, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The fused kernel on parts of the slots side by side, joined by their log-sum-exps; one sequence."""
    rows, slots = q.shape[2], k.shape[2] // parts
    k, v = (x[0].unflatten(1, (parts, slots)).transpose(0, 1) for x in (k, v))
    bias = mask.expand(1, q.shape[1], rows, -1)[0].unflatten(2, (parts, slots)).permute(2, 0, 1, 3)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    out, sums, *_ = kernel(q.expand(parts, -1, -1, -1), k, v, bias, True)
    weights = torch.softmax(sums[..., :rows], 0)
    return (weights[..., None] * out).sum(0, keepdim=True).to(q.dtype)


def real(check: Check) -> Iterator[Row]:
    """A real model, greedy: gamma 4 and graphs against eager autoregressive decoding, in both 16-bit types."""
    if check.real is None:
        yield Row("a real model", "", "none: name one with --model")
        return
    for dtype in (torch.float16, torch.bfloat16) if check.cuda else (torch.float32,):
        check.time_left()
        model, tokenizer = load(check.real, dtype, check.device)
        prompt = tokenizer("The history of the city begins with a small settlement on the river", return_tensors="pt")
        settings = {"max_new_tokens": 24 if check.tiny else 128, "sampling": GREEDY}
        use_eager(model)
        expected = generate(model, prompt.input_ids, **settings).tokens[0]
        check.graphs(model)
        press = get_press("streaming_llm", compression_ratio=0.3)
        for name, options in {
            "autoregressive, graphs": lambda: {},
            "gamma 4, prompt lookup, graphs": lambda: {"drafter": PromptLookup()},
            "gamma 4, compressed target, graphs": lambda press=press: {"drafter": CompressedTarget(press)},
        }.items():
            found = generate(model, prompt.input_ids, **options(), **settings)
            text = f"{dtype}".removeprefix("torch.")
            said, right = compared(check, model, prompt.input_ids, expected, found.tokens[0])
            rate = 1e3 / found.metrics()["tpot_ms"]
            yield Row(f"{text}, {name}", "equal or a near tie", f"{said}; {rate:.0f} tokens/s", rate, right)


def load(folder: Path, dtype: torch.dtype, device: torch.device) -> tuple[nn.Module, object]:
    files = [folder] if folder.suffix == ".gguf" else sorted(folder.glob("*.gguf"))
    if files:
        model, tokenizer = from_gguf(files[0], dtype=dtype)
        return model.to(device), tokenizer
    return load_model(folder, dtype=dtype, device=device)


def compared(check: Check, model: nn.Module, prompt: Tensor, expected: Tensor, found: Tensor) -> tuple[str, bool]:
    """Whether two greedy texts are one, or first differ at two tokens within 4 units of the last place."""
    differ = (expected != found).nonzero()
    if not len(differ):
        return "equal", True
    at = int(differ[0])
    use_eager(model)
    with decode_attention(model), torch.inference_mode():
        text = torch.cat([prompt[0], expected[:at]])[None]
        row = CachedModel(model, text.shape[1]).feed(text)[0, -1].float()
    check.graphs(model)
    gap = float((row[expected[at]] - row[found[at]]).abs())
    units = gap / (torch.finfo(model.dtype).eps * 2 ** math.floor(math.log2(float(row.abs().max()))))
    return f"differ at token {at} by {units:.1f} ulp", units <= 4


# ------------------------------------------------------------------------------------------------------------ the table

SECTIONS: dict[str, Callable[[Check], Iterator[Row]]] = {
    "versions": versions, "tiny": tiny, "laws": laws, "logits": logits, "steps": steps, "rounds": rounds,
    "law": law_costs, "kernels": kernels, "rates": rates, "memory": memory, "attention": attention, "real": real,
}  # fmt: skip


def environment(check: Check) -> dict:
    dtype = str(check.dtype).removeprefix("torch.")
    return describe(threads=torch.get_num_threads(), device=str(check.device), dtype=dtype)


def run(check: Check, names: list[str], publish: Callable[[dict], None]) -> bool:
    """All sections; one that fails does not keep the others from running. Returns whether everything was right."""
    record = {"schema": 1, "environment": environment(check), "rows": [], "seconds": {}, "failed": {}}
    for name in names:
        started = time.monotonic()
        try:
            check.time_left()
            with exact_kernels():
                for row in SECTIONS[name](check):
                    record["rows"].append({"section": name, **asdict(row)})
                    print_row(name, row)
        except OutOfTime:
            record["failed"][name] = "out of time"
        except Exception:
            record["failed"][name] = traceback.format_exc()
            print(record["failed"][name], flush=True)
        record["seconds"][name] = round(time.monotonic() - started, 2)
        print(f"{'':2}({name}: {record['seconds'][name]:.1f} s)", flush=True)
        publish(record)
    wrong = [row["name"] for row in record["rows"] if row["right"] is False]
    for name, why in record["failed"].items():
        print(f"section {name} did not finish: {why.strip().splitlines()[-1]}; again: --only {name}")
    for name in wrong:
        print(f"WRONG: {name}")
    right = sum(row["right"] is True for row in record["rows"])
    print(f"{right} right, {len(wrong)} wrong, {len(record['failed'])} unfinished")
    return not wrong and not record["failed"]


def print_row(section: str, row: Row) -> None:
    verdict = {True: "right", False: "WRONG", None: ""}[row.right]
    print(f"{section:9} {row.name:66} {row.expected:24} {row.measured:44} {verdict}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="tiny models and few repeats: checks the script itself")
    parser.add_argument("--only", default="", help=f"sections, by commas: {', '.join(SECTIONS)}")
    parser.add_argument("--seconds", type=float, default=540, help="stop after so many (default: %(default)s)")
    parser.add_argument("--model", type=Path, help="folder of a small real model, or a GGUF file")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/gpu_check.json"))
    args = parser.parse_args()
    names = args.only.split(",") if args.only else list(SECTIONS)
    if unknown := sorted(set(names) - set(SECTIONS)):
        parser.error(f"unknown sections: {', '.join(unknown)}; known: {', '.join(SECTIONS)}")
    device = torch.device(args.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            parser.error("there is no CUDA device here; --device cpu --tiny checks the script itself")
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    check = Check(device, args.tiny, args.seconds, args.model)
    right = run(check, names, lambda record: args.output.write_text(json.dumps(record, indent=1)))
    print(
        f"Wrote {args.output}. If this card is not in docs/performance.md yet, or something is wrong, open an issue\n"
        "and attach that file and this table: they name the card, the driver and the versions, no machine or person."
    )
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
