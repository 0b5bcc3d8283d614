"""The decoding engine beside transformers' own, in duels in one process: ratios with intervals.

transformers runs as a user would run it (`sdpa` attention, DynamicCache), assisted generation with a constant number of
drafted tokens and no confidence threshold. It hands its tokens to a streamer after each step or round; ours takes a
step of autoregressive decoding there, so that each of theirs lies between two of ours. Both sides get the same prompts,
model, draft, dtype and threads; tokens are those after the first: the prompt is read once on both sides.

The draft trained by the workflow has an output head over part of the vocabulary, which assisted generation does not
know: there its logits are scattered into rows of -inf over the whole vocabulary (some 30 microseconds a token).
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import contestants
import harness
import torch
from torch import nn
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging

from specpress import SamplingParams, generate, load_model
from specpress.data.documents import sample_passages
from specpress.data.store import load_documents
from specpress.decoding.generate import prepare
from specpress.drafters import DraftModel, TokenRecycling
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.experiments import speed
from specpress.experiments.assets import Assets
from specpress.experiments.duels import duel
from specpress.hardware.clock import no_garbage_collection
from specpress.hardware.environment import describe
from specpress.schedules.base import Constant
from specpress.theory.costs import Brackets
from specpress.theory.duels import Joint, Text, speedup

GREEDY, SAMPLED = SamplingParams(temperature=0), SamplingParams(temperature=0.85, top_p=0.9)
GAMMA = 4
SHORT, LONG = 64, 4096
ROUND = "round"  # a round of assisted generation


class Between(BaseStreamer):
    """Takes a step of ours wherever transformers hands out tokens; notes what theirs took in between."""

    def __init__(self, baseline: duel.Baseline, size: int, columns: dict[str, list]):
        self.baseline, self.size, self.columns = baseline, size, columns
        self.calls = self.tokens = self.rounds = 0

    def put(self, value):
        seconds = time.perf_counter() - self.resumed if self.calls > 1 else None
        self.calls += 1
        if self.calls > 1:  # the prompt is handed out first, then what followed it
            self.tokens += value.numel()
            step = self.baseline.step(self.tokens)
            if seconds is not None:
                self.rounds += 1
                row = (ROUND, self.size, seconds, self.before, step)
                for name, cell in zip(("part", "size", "seconds", "before", "after"), row, strict=True):
                    self.columns[name].append(cell)
            self.before = step
        self.resumed = time.perf_counter()

    def end(self):
        pass


class OurAttention(duel.Baseline):
    """A baseline that sets its model up for each step, and as it was afterwards."""

    def step(self, near: int) -> float:
        with decode_attention(*self.loop.models):
            return super().step(near)


class FullVocabulary(nn.Module):
    """An output head over part of the vocabulary, as one over all of it."""

    def __init__(self, head: nn.Module, token_ids: torch.Tensor, vocabulary: int):
        super().__init__()
        self.head, self.token_ids, self.vocabulary = head, token_ids, vocabulary

    def forward(self, hidden):
        logits = self.head(hidden)
        full = logits.new_full((*logits.shape[:-1], self.vocabulary), float("-inf"))
        return full.index_copy_(-1, self.token_ids, logits)


class ForwardTimer:
    """Seconds spent inside the forwards of the models that a generation runs."""

    def __enter__(self):
        self.seconds, self._feed = 0.0, CachedModel.feed

        def feed(*args, **kwargs):
            started = time.perf_counter()
            logits = self._feed(*args, **kwargs)
            self.seconds += time.perf_counter() - started
            return logits

        CachedModel.feed = feed
        return self

    def __exit__(self, *error):
        CachedModel.feed = self._feed


def assistant(path: Path) -> nn.Module:
    """The draft as transformers' assisted generation takes it: full vocabulary, constant gamma, no threshold."""
    draft, _ = load_model(path)
    if draft.head_token_ids is not None:
        draft.lm_head = FullVocabulary(draft.lm_head, draft.head_token_ids, draft.config.vocab_size)
    draft.generation_config.num_assistant_tokens = GAMMA
    draft.generation_config.num_assistant_tokens_schedule = "constant"
    draft.generation_config.assistant_confidence_threshold = 0
    return draft


def theirs(model, prompts, new, sampling, assistant_model=None) -> Joint:
    """transformers' speed-up over our autoregressive decoding; the first prompt warms up."""
    texts = []
    for number, prompt in enumerate(prompts):
        if number < 2:  # the first warms up
            columns: dict[str, list] = {name: [] for name in ("part", "size", "seconds", "before", "after")}
        baseline = OurAttention(prepare(model, prompt, max_new_tokens=new, sampling=sampling))
        with decode_attention(model):
            baseline.read()
        watch = Between(baseline, GAMMA + 1 if assistant_model is not None else 1, columns)
        with no_garbage_collection():
            _generate(model, prompt, new, sampling, assistant_model, watch)
        texts.append(Text(watch.tokens - 1, {(ROUND, watch.size): watch.rounds}))
    return speedup(texts[1:], Brackets.from_columns(columns))


def _generate(model, prompt, new, sampling, assistant_model, streamer) -> None:
    options = {"do_sample": False}
    if not sampling.greedy:
        torch.manual_seed(sampling.seed)
        options = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    model.set_attn_implementation("sdpa")
    model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=new,
        eos_token_id=None,
        pad_token_id=0,
        streamer=streamer,
        assistant_model=assistant_model,
        **options,
    )


def ours(model, draft, prompts, new, sampling) -> Joint:
    """The speed-up of our speculative decoding; the first prompt warms up."""
    record, texts = duel.Record(), []
    for number, prompt in enumerate(prompts):
        if number == 1:
            record = duel.Record()
        method = prepare(
            model, prompt, max_new_tokens=new, sampling=sampling, drafter=DraftModel(draft), schedule=Constant(GAMMA)
        )
        baseline = duel.Baseline(prepare(model, prompt, max_new_tokens=new, sampling=sampling))
        with no_garbage_collection(), decode_attention(*method.models):
            _, counted = duel.duel(baseline, method, record, number, number)
        texts.append(Text(method.new - 1, counted))
    return speedup(texts[1:], Brackets.from_columns(record.brackets))


def ratio(name: str, value: Joint, goal: float, better=">=") -> dict:
    """A row for exp of a log ratio, with its interval."""
    width = value.half_width()
    ends = [] if width is None else [math.exp(value.value - width), math.exp(value.value + width)]
    return {"name": name, "ratio": math.exp(value.value), "ends": ends, "goal": f"{better} {goal}", "prompts": value.n}


def shares(name: str, values: Sequence[float], goal: float) -> dict:
    """A row for shares of a step: the median over prompts, and the lowest and highest."""
    ends = [min(values), max(values)]
    return {"name": name, "ratio": statistics.median(values), "ends": ends, "goal": f"< {goal}", "prompts": len(values)}


def compare_autoregressive(model, prompts, new, goal) -> dict:
    """Ours over `generate`: the other way round than the duel, in which ours is the baseline."""
    found = theirs(model, prompts, new, GREEDY)
    over = Joint(-found.value, found.machine, found.machine_freedom, found.text, found.text_freedom, found.n)
    return ratio(f"autoregressive over generate, context {prompts[0].shape[1]}", over, goal)


def compare_speculative(model, draft, assistant_model, prompts, new, sampling, goal) -> dict:
    """Ours over assisted generation, both against our autoregressive decoding."""
    own = ours(model, draft, prompts, new, sampling)
    other = theirs(model, prompts, new, sampling, assistant_model)
    text = math.hypot(own.text, other.text)  # other texts when sampled: nothing is paired
    machine = math.hypot(own.machine, other.machine)
    freedom = min(own.machine_freedom, other.machine_freedom)
    difference = Joint(own.value - other.value, machine, freedom, text, own.text_freedom, own.n)
    how = "greedy" if sampling.greedy else "sampled"
    return ratio(f"speculative over assisted generation, {how}", difference, goal)


THEORY = {
    **{"id": "theory", "kind": "speed", "baseline": "target", "model": "target", "data": "text", "seed": 0},
    **{"prompt_tokens": SHORT, "max_new_tokens": 96, "sampling": {"temperature": 0.85, "top_p": 0.9}},
    **{"precision": 0.03, "budget_seconds": 60, "least_prompts": 3, "most_prompts": 200, "verification": "token"},
    **{"drafter": {"name": "draft_model", "model": "draft"}, "schedule": {"name": "constant", "gamma": GAMMA}},
}


def compare_with_theory(spec: dict, assets: Assets, goal: float) -> list[dict]:
    """A speed experiment's speed-up, and that over the one predicted from its own acceptance and costs."""
    found = speed.measure(spec, assets)
    texts = [
        Text(run["tokens"], {(part, size): n for part, size, n in run["rounds"]})
        for run in found["runs"]
        if run["tokens"]
    ]
    gain = speedup(texts, Brackets.from_columns(found["brackets"]))
    predicted = math.log(found["theory"]["predicted_speedup"])
    over = Joint(gain.value - predicted, gain.machine, gain.machine_freedom, gain.text, gain.text_freedom, gain.n)
    return [
        ratio("speculative over autoregressive, sampled", gain, 1.0),
        ratio("measured over predicted speed-up", over, goal),
    ]


def measure_overhead(model, draft, prompts, new, goal) -> list[dict]:
    """Time of an iteration outside the models' forwards, over a target step; of trees it may be a little more."""
    ways = {
        "autoregressive": (dict, goal),
        "speculative": (lambda: {"drafter": DraftModel(draft), "schedule": Constant(GAMMA)}, goal),
        "trees of 8": (
            lambda: {"drafter": TokenRecycling(nodes=8), "schedule": Constant(8), "verification": "traversal"},
            goal + 0.02,
        ),
    }
    rows = []
    for name, (make, most) in ways.items():
        found = []
        for prompt in prompts:
            options = make()
            plain = generate(model, prompt, max_new_tokens=new, sampling=SAMPLED)
            step = statistics.median(i.seconds for i in plain.trace.iterations)
            with ForwardTimer() as timer:
                trace = generate(model, prompt, max_new_tokens=new, sampling=SAMPLED, **options).trace
            outside = trace.prefill_seconds + sum(i.seconds for i in trace.iterations) - timer.seconds
            found.append(outside / len(trace.iterations) / step)
        rows.append(shares(f"outside forwards over a target step, {name}", found[1:], most))
    return rows


def main() -> None:
    """Parse the command line, compare, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("resources/embedded/models/target"))
    parser.add_argument("--draft", type=Path, default=Path("results/embedded/drafts/draft"))
    parser.add_argument("--data", type=Path, default=Path("resources/embedded/data/wikipedia"))
    parser.add_argument(
        "--gguf", type=Path, help="the model as a GGUF file, for llama.cpp (if llama-cpp-python is there)"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7, help="counted prompts of each side (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/engine.json"))
    args = parser.parse_args()
    for path in (args.model, args.draft, args.data):
        if not path.is_dir():
            parser.error(f"{path} is missing: `make paper` makes it, or name another")
    if args.runs < 3:
        parser.error("fewer than three runs give no interval")

    logging.set_verbosity_error()  # a warning a round would count against assisted generation
    torch.set_num_threads(args.threads)
    assets = Assets({"target": args.model, "draft": args.draft}, {"text": args.data})
    model, tokenizer, draft = assets.model("target"), assets.tokenizer("target"), assets.model("draft")
    documents = load_documents(args.data, "test")

    def prompts(length, runs):
        passages = sample_passages(documents, tokenizer, count=runs + 1, length=length, seed=0)
        return [torch.tensor([passage.tokens], device=model.device) for passage in passages]

    def batch(rows, length):
        return torch.cat(prompts(length, rows)[:rows])

    spec = THEORY | {"least_prompts": args.runs}
    short, other = prompts(SHORT, args.runs), assistant(args.draft)
    groups = [
        lambda: [compare_autoregressive(model, short, 64, 1.0)],
        lambda: [compare_speculative(model, draft, other, short, 64, GREEDY, 1.25)],
        lambda: [compare_speculative(model, draft, other, short, 64, SAMPLED, 1.25)],
        lambda: harness.rows(spec | {"budget_seconds": 20}, assets),
        lambda: compare_with_theory(spec, assets, 0.92),
        lambda: measure_overhead(model, draft, short, 64, 0.03),
        lambda: contestants.rows(model, batch, args.gguf, args.threads),
        lambda: [compare_autoregressive(model, prompts(LONG, max(3, args.runs // 2)), 24, 1.8)],
    ]
    print(f"{'ratio':54} {'value':>7} {'goal':>8}   95% interval; of shares, lowest to highest prompt")
    rows = []
    for measure in groups:
        for found in measure():
            rows.append(found)
            ends = " to ".join(f"{end:.3f}" for end in found["ends"]) or "-"
            print(f"{found['name']:54} {found['ratio']:7.3f} {found['goal']:>8}   {ends}", flush=True)
    dtype = str(model.dtype).removeprefix("torch.")
    environment = describe(threads=args.threads, device=str(model.device), dtype=dtype)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({"environment": environment, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
