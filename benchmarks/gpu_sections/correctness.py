"""Is it right: texts, laws and logits against the CPU's, the host's and the eager ones."""

import copy
import traceback
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from gpu_sections.bench import GAMMA, GREEDY, SAMPLED, Check, Row, laws_on, neox, scaled
from specpress import SamplingParams, generate, perplexity
from specpress.decoding.uncached import generate_uncached
from specpress.drafters import Cascade, CompressedTarget, DraftModel, PromptLookup
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.graphs import SIZES, buckets, use_eager
from specpress.laws.device import DeviceLaws
from specpress.laws.law import Laws
from specpress.laws.sampling import Randomness
from specpress.models.build import build_model
from specpress.presses import get_press
from specpress.schedules import AIMD, Confidence, Constant
from specpress.speculation.device_verification import verify_on_device
from specpress.speculation.verification import verify


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
            verdicts += found != (expected.kept, [*drafted[expected.kept].tolist(), expected.token])
        yield Row(f"largest difference of a mass, {name}", "<= 1e-12", f"{off:.1e}", off, off <= 1e-12)
        yield Row(f"rounds drafted otherwise, {name}", f"0 of {rounds}", f"{different}", different, not different)
        yield Row(f"rounds decided otherwise, {name}", f"0 of {rounds}", f"{verdicts}", verdicts, not verdicts)


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


def ulps(a: Tensor, b: Tensor, dtype: torch.dtype) -> float:
    """The largest difference of two rows of logits, in units of the last place of the row's largest."""
    largest = b.float().abs().amax(-1)
    ulp = torch.finfo(dtype).eps * torch.exp2(largest.log2().floor())
    return float(((a.float() - b.float()).abs().amax(-1) / ulp).max())
