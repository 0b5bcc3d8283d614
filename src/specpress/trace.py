"""What happened in a generation, and when: one record an iteration, and the figures read off them."""

import gc
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from specpress.devices import synchronize


def clock(device: torch.device) -> float:
    """Seconds on a monotonic clock, after the device has finished what it was given."""
    synchronize(device)
    return time.perf_counter()


@contextmanager
def no_garbage_collection():
    """Collect before, not during, what is timed inside the block.

    What outlives the collection is set aside: the next one need not go through every imported module again.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@dataclass(frozen=True)
class Iteration:
    """One round of the loop: draft, verify, commit.

    `gamma` is what the schedule asked for, `proposed` what the drafter gave, `accepted` what the target kept,
    `committed` the tokens that reached the output (at most accepted + 1), `slots` the slots of the target's cache
    afterwards (of its fullest row). `rejections` counts the sequences whose draft was cut short.

    For a batch with a drafter, proposed, accepted, committed and rejections are sums over the rows, and gamma is what
    was asked for in each row.
    """

    gamma: int
    proposed: int
    accepted: int
    committed: int
    seconds: float
    draft_seconds: float
    slots: int
    rejections: int | None = None

    def __post_init__(self):
        if self.rejections is None:  # one sequence
            object.__setattr__(self, "rejections", int(self.accepted < self.proposed))

    @property
    def verify_seconds(self) -> float:
        """Seconds of the round that were not drafting: the target's forward, verification and bookkeeping."""
        return self.seconds - self.draft_seconds


@dataclass
class Trace:
    """Times and counts of one generation. `prefill_seconds` ends with the first token.

    Of the target's cache at the end: `kv_bytes`, and of each layer `layer_slots` and `layer_kv_bytes`.
    """

    prefill_seconds: float = 0.0
    iterations: list[Iteration] = field(default_factory=list)
    kv_bytes: int = 0
    layer_slots: list[int] = field(default_factory=list)
    layer_kv_bytes: list[int] = field(default_factory=list)

    def columns(self) -> dict[str, list]:
        """The iterations as one list a field, for JSON."""
        names = ("gamma", "proposed", "accepted", "committed", "seconds", "draft_seconds", "slots", "rejections")
        return {name: [getattr(iteration, name) for iteration in self.iterations] for name in names}

    def tested(self) -> tuple[int, int]:
        """(accepted, tested) draft tokens: those after the first rejection of a round were never put to the test."""
        accepted = sum(i.accepted for i in self.iterations)
        rejected = sum(i.rejections for i in self.iterations)
        return accepted, accepted + rejected

    def metrics(self, n_tokens: int) -> dict:
        """The figures of a generation of `n_tokens` tokens (a sequence).

        ttft_s: seconds from the call to the first token. tpot_ms: milliseconds a token after the first. tokens_per_s:
        all tokens over all seconds. acceptance_rate: accepted / proposed draft tokens. tokens_per_iteration: tokens
        after the first, per forward of the target. kv_bytes: bytes of the target's keys and values at the end. None
        where the generation cannot say (a single token has no TPOT; no drafter, no acceptance).
        """
        decode = sum(i.seconds for i in self.iterations)
        proposed = sum(i.proposed for i in self.iterations)
        after_first = n_tokens - 1
        return {
            "n_tokens": n_tokens,
            "ttft_s": self.prefill_seconds,
            "tpot_ms": 1e3 * decode / after_first if after_first > 0 else None,
            "tokens_per_s": n_tokens / (self.prefill_seconds + decode),
            "acceptance_rate": sum(i.accepted for i in self.iterations) / proposed if proposed else None,
            "tokens_per_iteration": after_first / len(self.iterations) if self.iterations else None,
            "kv_bytes": self.kv_bytes,
        }
