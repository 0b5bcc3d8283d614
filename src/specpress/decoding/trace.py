"""What happened in a generation, and when: one record an iteration, and the figures read off them."""

from dataclasses import dataclass, field

from specpress.schedules.iteration import Iteration


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
