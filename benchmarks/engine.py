"""The decoding engine beside transformers' own, in one process: ratios, interleaved, medians over runs.

Both sides get the same prompts, model, draft, dtype and threads. transformers runs as a user would run it (`sdpa`
attention, DynamicCache), assisted generation with a constant number of drafted tokens and no confidence threshold.
Tokens/s are those after the first token: the prompt is read once on both sides.

The draft trained by the workflow has an output head over part of the vocabulary, which assisted generation does not
know: there its logits are scattered into rows of -inf over the whole vocabulary (some 30 microseconds a token).
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging

from specpress import SamplingParams, generate, load_model
from specpress.data.documents import load_documents, sample_passages
from specpress.drafters import DraftModel
from specpress.engine.cached_model import CachedModel
from specpress.hardware.environment import describe
from specpress.schedules import Constant
from specpress.theory.expected import expected_speedup

GREEDY, SAMPLED = SamplingParams(temperature=0), SamplingParams(temperature=0.85, top_p=0.9)
GAMMA = 4
SHORT, LONG = 64, 4096


class Stopwatch(BaseStreamer):
    """Notes when transformers hands out tokens."""

    def __init__(self):
        self.times, self.counts = [], []

    def put(self, value):
        self.times.append(time.perf_counter())
        self.counts.append(value.numel())

    def end(self):
        pass

    def tokens_per_second(self) -> float:
        """Tokens after the first batch of new ones, over their time; the prompt is put first."""
        return sum(self.counts[2:]) / (self.times[-1] - self.times[1])


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


def run_ours(model, prompt, new, sampling, draft=None):
    options = {"drafter": DraftModel(draft), "schedule": Constant(GAMMA)} if draft is not None else {}
    return generate(model, prompt, max_new_tokens=new, sampling=sampling, **options)


def rate(generation) -> float:
    return 1e3 / generation.metrics()["tpot_ms"]


def run_theirs(model, prompt, new, sampling, assistant_model=None) -> float:
    """Tokens/s of transformers' generate."""
    watch, options = Stopwatch(), {"do_sample": False}
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
        streamer=watch,
        assistant_model=assistant_model,
        **options,
    )
    return watch.tokens_per_second()


def alternate(first, second, prompts) -> tuple[list, list]:
    """Both on every prompt, taking turns in going first; the first prompt is a warm-up and not counted."""
    results = ([], [])
    for number, prompt in enumerate(prompts):
        for which in (0, 1) if number % 2 else (1, 0):
            results[which].append((first, second)[which](prompt))
    return results[0][1:], results[1][1:]


def row(name: str, ratios: list[float], goal: float, better=">=", **more) -> dict:
    return {"name": name, "median": statistics.median(ratios), "goal": f"{better} {goal}", "runs": ratios, **more}


def compare_autoregressive(model, prompts, new, goal) -> dict:
    ours, theirs = alternate(
        lambda prompt: rate(run_ours(model, prompt, new, GREEDY)),
        lambda prompt: run_theirs(model, prompt, new, GREEDY),
        prompts,
    )
    name = f"autoregressive over generate, context {prompts[0].shape[1]}"
    return row(name, ratios(ours, theirs), goal, tokens_per_s=[ours, theirs])


def compare_speculative(model, draft, assistant_model, prompts, new, sampling, goal) -> dict:
    ours, theirs = alternate(
        lambda prompt: rate(run_ours(model, prompt, new, sampling, draft)),
        lambda prompt: run_theirs(model, prompt, new, sampling, assistant_model),
        prompts,
    )
    name = f"speculative over assisted generation, {'greedy' if sampling.greedy else 'sampled'}"
    return row(name, ratios(ours, theirs), goal, tokens_per_s=[ours, theirs])


def compare_with_theory(model, draft, prompts, new, goal) -> tuple[dict, dict]:
    """Measured speed-up, and measured over predicted from acceptance and costs of the same runs."""
    plain, drafted = alternate(
        lambda prompt: run_ours(model, prompt, new, SAMPLED),
        lambda prompt: run_ours(model, prompt, new, SAMPLED, draft),
        prompts,
    )
    speedups = [rate(b) / rate(a) for a, b in zip(plain, drafted, strict=True)]
    predicted = [predict(a.trace, b.trace) for a, b in zip(plain, drafted, strict=True)]
    return (
        row("speculative over autoregressive, sampled", speedups, 1.0),
        row("measured over predicted speed-up", ratios(speedups, predicted), goal, predicted=predicted),
    )


def predict(plain, drafted) -> float:
    """Leviathan et al. (2023), section 3, with the acceptance and the mean costs of these very runs."""
    full = [i for i in drafted.iterations if i.proposed == GAMMA]
    step = statistics.fmean(i.seconds for i in plain.iterations)
    accepted, tested = drafted.tested()
    draft_cost = statistics.fmean(i.draft_seconds / i.proposed for i in full) / step
    return expected_speedup(
        accepted / tested, GAMMA, draft_cost, statistics.fmean(i.verify_seconds for i in full) / step
    )


def measure_overhead(model, draft, prompts, new, goal) -> list[dict]:
    """Time of an iteration outside the models' forwards, over a target step."""
    rows = []
    for name, drafter in (("autoregressive", None), ("speculative", draft)):
        shares = []
        for prompt in prompts:
            step = statistics.median(i.seconds for i in run_ours(model, prompt, new, SAMPLED).trace.iterations)
            with ForwardTimer() as timer:
                trace = run_ours(model, prompt, new, SAMPLED, drafter).trace
            outside = trace.prefill_seconds + sum(i.seconds for i in trace.iterations) - timer.seconds
            shares.append(outside / len(trace.iterations) / step)
        rows.append(row(f"outside forwards over a target step, {name}", shares[1:], goal, better="<"))
    return rows


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("resources/embedded/models/target"))
    parser.add_argument("--draft", type=Path, default=Path("results/embedded/drafts/draft"))
    parser.add_argument("--data", type=Path, default=Path("resources/embedded/data/wikipedia"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7, help="counted runs of each side (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/engine.json"))
    args = parser.parse_args()
    for path in (args.model, args.draft, args.data):
        if not path.is_dir():
            parser.error(f"{path} is missing: `make paper` makes it, or name another")

    logging.set_verbosity_error()  # a warning a round would count against assisted generation
    torch.set_num_threads(args.threads)
    (model, tokenizer), (draft, _) = load_model(args.model), load_model(args.draft)
    documents = load_documents(args.data / "test.jsonl")

    def prompts(length, runs):
        passages = sample_passages(documents, tokenizer, count=runs + 1, length=length, seed=0)
        return [torch.tensor([passage.tokens], device=model.device) for passage in passages]

    short = prompts(SHORT, args.runs)
    other = assistant(args.draft)
    groups = [
        lambda: [compare_autoregressive(model, short, 64, 1.0)],
        lambda: [compare_speculative(model, draft, other, short, 64, GREEDY, 1.25)],
        lambda: [compare_speculative(model, draft, other, short, 64, SAMPLED, 1.25)],
        lambda: compare_with_theory(model, draft, short, 96, 0.92),
        lambda: measure_overhead(model, draft, short, 64, 0.03),
        lambda: [compare_autoregressive(model, prompts(LONG, max(3, args.runs // 2)), 24, 1.8)],
    ]
    print(f"{'ratio':54} {'median':>7} {'goal':>8}   lowest to highest run")
    rows = []
    for measure in groups:
        for found in measure():
            rows.append(found)
            lowest, highest = min(found["runs"]), max(found["runs"])
            figures = f"{found['median']:7.3f} {found['goal']:>8}   {lowest:.3f} to {highest:.3f}"
            print(f"{found['name']:54} {figures}", flush=True)
    environment = describe(
        threads=args.threads, device=str(model.device), dtype=str(model.dtype).removeprefix("torch.")
    )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({"environment": environment, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
