"""When a cache is compressed, and to how many slots: after the prompt, and every so many tokens while decoding.

The schedule looks at nothing but the number of tokens committed, so that speculative and autoregressive decoding
compress at the same places and give the same tokens.
"""

import sys
from dataclasses import dataclass

from specpress.study.abilities import EVICTS, REFUSED, ability_of, inner_presses

DEFAULT_INTERVAL = 64
_LOOK = ("HybridPress", "OptimizedHybridPress", "ThinKPress")  # at a window that they do not keep
_RECENT = 256  # hidden states kept while decoding, as in kvpress's DecodingPress


@dataclass(frozen=True)
class Compression:
    """How a cache is kept small.

    Parameters
    ----------
    press : a kvpress press (see `specpress.presses.get_press`), or None to keep every slot
    cache_budget : int or None
        Most slots of a layer after a compression. After the prompt the press's ratio counts too, if it leaves fewer.
        None compresses once, after the prompt, by the ratio alone.
    compression_interval : int or None
        Tokens between compressions while decoding, 64 by default: under a budget of B a layer holds up to B + 64 slots.

    Raises
    ------
    ValueError
        A budget or an interval without what it needs, a budget smaller than what the press always keeps, a press that
        cannot run, or not while decoding.
    """

    press: object = None
    cache_budget: int | None = None
    compression_interval: int | None = None

    def __post_init__(self):
        if self.cache_budget is None and self.compression_interval is not None:
            raise ValueError("compression_interval is for compression while decoding: give cache_budget, in slots, too")
        if self.press is None:
            if self.cache_budget is not None:
                raise ValueError("cache_budget needs a press that says which slots to keep")
            return
        check_runs(self.press)
        if self.cache_budget is not None:
            self._check_budget()

    def _check_budget(self) -> None:
        check_repeatable(self.press)
        if self.interval < 1:
            raise ValueError(f"compression_interval must be at least 1 token, got {self.compression_interval}")
        always = always_kept(self.press)
        if self.cache_budget <= always:
            raise ValueError(
                f"cache_budget must be more than the {always} slots that {type(self.press).__name__} always keeps "
                f"or looks at (sinks and window), got {self.cache_budget}"
            )

    @property
    def interval(self) -> int:
        """Tokens between compressions under a budget."""
        return DEFAULT_INTERVAL if self.compression_interval is None else self.compression_interval

    def check_prompt(self, tokens: int) -> None:
        """Raise ValueError if a prompt of `tokens` tokens is too short for the press's window, or for its ratio."""
        if self.press is None:
            return
        self._check_ratio(tokens)
        always = always_kept(self.press)
        if tokens <= always and (self.cache_budget is not None or getattr(self.press, "compression_ratio", 1)):
            raise ValueError(
                f"{type(self.press).__name__} always keeps {always} slots (sinks and window): a prompt of {tokens} "
                f"tokens is too short for it; give at least {always + 1} tokens, or the press a smaller window"
            )

    def _check_ratio(self, tokens: int) -> None:
        """Which of the slots that always stay are to go, nothing says."""
        from kvpress.utils import compute_n_kept

        for press in (self.press, *inner_presses(self.press)):
            ratio, stay = vars(press).get("compression_ratio"), always_kept(press, looked_at=False)
            if not ratio or tokens <= stay:
                continue
            kept = compute_n_kept(tokens, ratio)
            if kept <= stay:
                raise ValueError(
                    f"{type(press).__name__} always keeps {stay} slots (sinks and window), and at a ratio of {ratio:g} "
                    f"{kept} of {tokens} are to stay: give a ratio of at most {1 - (stay + 1) / tokens:.2f}, a longer "
                    "prompt, or the press a smaller window"
                )

    def room(self, seen: int, prompt: int) -> int:
        """Tokens, at least 1, that a cache may take before it is compressed next.

        It has seen `seen` tokens, the first `prompt` of them at once. Without a budget there is always room.
        """
        return sys.maxsize if self.cache_budget is None else self.interval - (seen - prompt) % self.interval

    def due(self, seen: int, prompt: int) -> bool:
        """Whether a cache that has seen `seen` tokens is to be compressed before the next one is fed."""
        return self.cache_budget is not None and seen > prompt and (seen - prompt) % self.interval == 0


def check_runs(press) -> None:
    """Raise ValueError unless `press` is one that can compress a cache here."""
    from kvpress import BasePress  # takes seconds to import, which the class of a press has taken already

    if not isinstance(press, BasePress):
        raise ValueError(
            f"{press!r} does not compress a cache: it is no kvpress press (kvpress.BasePress); "
            'specpress.presses.get_press("knorm", compression_ratio=0.5) makes one'
        )
    ability = ability_of(press)
    if ability.status == REFUSED:
        raise ValueError(f"{type(press).__name__} cannot run here: it {ability.reason}")


def check_even(press) -> None:
    """Raise ValueError if `press` cannot compress the cache of a batch whose rows accept tokens of their own."""
    if not ability_of(press).even:
        raise ValueError(
            f"drafting for a batch needs a press that keeps the same number of slots in every layer, which "
            f"{type(press).__name__} does not; take another press, or decode one sequence at a time"
        )


def check_repeatable(press) -> None:
    """Raise ValueError if `press` can compress after the prompt only, not again and again."""
    ability = ability_of(press)
    if ability.status != EVICTS:
        raise ValueError(f"{type(press).__name__} cannot compress while decoding: it {ability.reason}")


def needs_attention_weights(press) -> bool:
    """Whether the prompt has to be read with eager attention for `press`, None included."""
    return press is not None and ability_of(press).eager


def recent_tokens(press) -> int:
    """Hidden states to keep while decoding."""
    return max(_RECENT, always_kept(press) + 1)


def always_kept(press, looked_at: bool = True) -> int:
    """Slots that `press` always keeps, its sinks and its window, or the presses inside it theirs.

    looked_at : count also the windows of presses that score the other slots by them and need not keep them
    """
    names = ["n_sink", "num_sinks", "sink_size_start", "sink_size_end", "window_size"]
    if not looked_at and type(press).__name__ in _LOOK:
        names.remove("window_size")
    own = sum(getattr(press, name, None) or 0 for name in names)
    return max(own, *(always_kept(inner, looked_at) for inner in inner_presses(press)), 0)
