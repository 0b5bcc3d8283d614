"""Where a round's time goes: milliseconds a round inside the models' forwards and in each part outside them.

Every function below is timed by one clock, less what it calls of the others, so that the parts add up to the round.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import specpress.speculation.rounds as speculation
from specpress import SamplingParams, load_model
from specpress.data.documents import sample_passages
from specpress.data.store import load_documents
from specpress.decoding.generate import prepare
from specpress.decoding.loop import Loop
from specpress.drafters import DraftModel, Mixture, SuffixLookup, TokenRecycling
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.hardware.clock import no_garbage_collection
from specpress.hardware.environment import describe
from specpress.schedules import Constant
from specpress.theory.parts import VERIFICATION

GREEDY, SAMPLED = SamplingParams(temperature=0), SamplingParams(temperature=0.85, top_p=0.9)
TARGET, DRAFT, REST = "forward of the target", "forwards of the draft", "the rest"
GAMMA, NODES = 3, 8


class Parts:
    """Seconds by part of everything decoded inside the block, of which `target` is the model that verifies."""

    def __init__(self, target: nn.Module):
        self.seconds: Counter = Counter()
        self._inner: list[float] = []  # of the functions that run now, what those they called have taken
        self._target = target
        self._places = [
            (CachedModel, "feed", lambda cached, *args: TARGET if cached.model is self._target else DRAFT),
            (CachedModel, "keep", "keeping what stands in the cache"),
            (speculation, "judge", "laws of the target and verification"),
            *((drafter, "propose", "drafting beside its forwards") for drafter in (DraftModel, Mixture)),
            (Mixture, "learn", "learning from logits"),
            (Loop, "_drawn", "laws of the target and verification"),
            (Loop, "_commit", "committing"),
        ]

    def __enter__(self) -> "Parts":
        self._before = [(owner, name, getattr(owner, name)) for owner, name, _ in self._places]
        for owner, name, label in self._places:
            setattr(owner, name, self._timed(label, getattr(owner, name)))
        return self

    def __exit__(self, *error) -> None:
        for owner, name, function in self._before:
            setattr(owner, name, function)

    def _timed(self, label: str | Callable, function: Callable) -> Callable:
        def timed(*args, **kwargs):
            with_label = label(*args) if callable(label) else label
            started = time.perf_counter()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                self.add(with_label, time.perf_counter() - started)

        return timed

    def add(self, label: str, seconds: float) -> None:
        """Count a function that has run, less what it called."""
        self.seconds[label] += seconds - self._inner.pop()
        if self._inner:
            self._inner[-1] += seconds

    def rounds(self, parts: Iterator) -> int:
        """Advance a generation to its end; the number of rounds."""
        count = 0
        while True:
            started = time.perf_counter()
            self._inner.append(0.0)
            part = next(parts, None)
            self.add(REST, time.perf_counter() - started)
            if part is None:
                return count
            count += part.name == VERIFICATION


def ways(draft: nn.Module) -> dict[str, tuple[SamplingParams, Callable[[], dict]]]:
    """What is decoded: sampling, and fresh options of `generate`."""

    def path() -> dict:
        return {"drafter": DraftModel(draft), "schedule": Constant(GAMMA)}

    def tree() -> dict:
        drafter = Mixture([SuffixLookup(), TokenRecycling()], nodes=NODES)
        return {"drafter": drafter, "schedule": Constant(NODES), "verification": "traversal"}

    return {
        "plain, sampled": (SAMPLED, dict),
        **{f"draft, {GAMMA} tokens, {how}": (s, path) for how, s in (("sampled", SAMPLED), ("greedy", GREEDY))},
        **{f"tree of {NODES}, {how}": (s, tree) for how, s in (("sampled", SAMPLED), ("greedy", GREEDY))},
    }


def profile(target: nn.Module, draft: nn.Module, prompts: Sequence[Tensor], new: int) -> list[dict]:
    """A row a way: `rounds`, and `milliseconds` a round by part. The first prompt warms up; ways take turns."""
    seconds: dict[str, Counter] = {name: Counter() for name in ways(draft)}
    rounds: Counter = Counter()
    for number, prompt in enumerate(prompts):
        for name, (sampling, options) in ways(draft).items():
            decoding = prepare(target, prompt, max_new_tokens=new, sampling=sampling, **options())
            with decode_attention(*decoding.models), no_garbage_collection():
                parts = decoding.parts()
                next(parts)  # the prompt
                with Parts(target) as timed:
                    count = timed.rounds(parts)
            if number:
                seconds[name].update(timed.seconds)
                rounds[name] += count
    return [
        {
            **{"name": name, "rounds": rounds[name]},
            "milliseconds": {part: 1e3 * spent / rounds[name] for part, spent in seconds[name].most_common()},
        }
        for name in seconds
    ]


def told(rows: Sequence[dict]) -> Iterator[str]:
    """The rows as text, with what is outside forwards as a share of a step of plain decoding."""
    step = rows[0]["milliseconds"][TARGET]
    for row in rows:
        outside = sum(ms for part, ms in row["milliseconds"].items() if part not in (TARGET, DRAFT))
        share = f"{outside:.2f} ms outside forwards, {outside / step:.1%} of a step"
        yield f"{row['name']}, {row['rounds']} rounds: {share}"
        for part, ms in row["milliseconds"].items():
            yield f"    {part:40}{ms:8.3f} ms"


def main() -> None:
    """Parse the command line, decode, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("resources/embedded/models/target"))
    parser.add_argument("--draft", type=Path, default=Path("results/embedded/drafts/draft"))
    parser.add_argument("--data", type=Path, default=Path("resources/embedded/data/wikipedia"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--prompts", type=int, default=6, help="counted prompts (default: %(default)s)")
    parser.add_argument("--new", type=int, default=48, help="new tokens of each (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/rounds.json"))
    args = parser.parse_args()
    for path in (args.model, args.draft, args.data):
        if not path.is_dir():
            parser.error(f"{path} is missing: `make paper` makes it, or name another")
    torch.set_num_threads(args.threads)
    (target, tokenizer), (draft, _) = load_model(args.model), load_model(args.draft)
    documents = load_documents(args.data, "test")
    passages = sample_passages(documents, tokenizer, count=args.prompts + 1, length=64, seed=0)
    rows = profile(target, draft, [torch.tensor([p.tokens], device=target.device) for p in passages], args.new)
    print("\n".join(told(rows)))
    dtype = str(target.dtype).removeprefix("torch.")
    environment = describe(threads=args.threads, device=str(target.device), dtype=dtype)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({"environment": environment, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
