"""What it costs: steps, rounds and their parts, laws, kernels, rates and memory."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator

import torch

from gpu_sections.bench import GAMMA, SAMPLED, STEP_MS, Check, Row, laws_on, one_step
from specpress import generate
from specpress.drafters import DraftModel, PromptLookup
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.graphs import captures, free_graphs, is_fused, use_eager
from specpress.hardware.devices import fuses
from specpress.laws.device import DeviceLaws
from specpress.laws.law import Laws
from specpress.laws.sampling import Randomness
from specpress.schedules import AIMD, Constant
from specpress.speculation.device_verification import verify_on_device
from specpress.study.memory import estimate
from specpress.theory.shapes import shape_of


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
        yield Row("kernels a layer", "10 to 11", "only on CUDA")
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
            expected = "18 to 24" if how == "eager" else "10 to 11"
            yield Row(f"{name}, {how}: kernels a layer", expected, f"{count / layers:.1f}", count / layers)
            said = f"{busy:.3f} of {wall:.3f} ms ({busy / wall:.0%})"
            yield Row(f"{name}, {how}: the GPU computes", "", said, busy / wall)
            if how == "graph":
                ours, wanted = is_fused(model), fuses(model.device)
                yield Row(f"{name}: steps run in kernels of ours", str(wanted), str(ours), right=ours == wanted)
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
    for options in ({}, {"drafter": DraftModel(draft)}):
        generate(target, check.prompt(length), max_new_tokens=new, sampling=SAMPLED, **options)
    peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    share = peak / expected
    measured = f"{share:.2f} ({peak / 1e9:.2f} GB, reserved {reserved / 1e9:.2f}, estimate {expected / 1e9:.2f})"
    yield Row("peak over the estimate", "0.6 to 1", measured, share, share <= 1)
    for name in ("2.8B", "410M", "70M"):
        check.keep_only(name)
        yield _taken_by_steps(check, name)


def _taken_by_steps(check: Check, name: str) -> Row:
    """What the captured steps of a cache take beside it: of the driver, and of outputs that stay where they are."""
    model = check.model(name)
    check.graphs(model)
    with decode_attention(model):
        cached = CachedModel(model, check.slots[-1])
        cached.feed(check.prompt(check.slots[0]))
        one_step(cached, 1)
    arenas, count = model.static_steps.arenas, captures([model])
    held = sum(buffer.nbytes for arena in arenas for layer in arena.buffers for buffer in layer)
    with_steps = _free_bytes(check)
    del cached, arenas
    free_graphs(model)
    taken = _free_bytes(check) - with_steps
    each = (taken - held) / 1e6 / max(1, count)
    layers = check.shapes[name][0]
    measured = (
        f"{each:.2f} ({count} of them, {1e3 * each / layers:.0f} kB a layer; {taken / 1e6:.0f} MB with the cache)"
    )
    return Row(f"{name}, a captured step beside the cache, MB", "below 1", measured, each)


def _free_bytes(check: Check) -> int:
    gc.collect()  # caches refer to themselves
    torch.cuda.synchronize(check.device)
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(check.device)[0]
