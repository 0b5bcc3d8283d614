"""Self-speculation: the target drafts for itself on a compressed copy of its own cache.

Verification runs on the target's own cache, so the output law is that of the target without a drafter. MagicDec (Chen
et al., 2024) and TriForce (Sun et al., 2024) draft this way, each with one press; here the press is a parameter.
"""

from collections.abc import Callable

from torch import Tensor, nn

from specpress.drafters.autoregressive import draft
from specpress.drafters.rows import TargetRows
from specpress.engine.cached_model import CachedModel
from specpress.engine.compression import compress
from specpress.engine.compression_settings import Compression, check_repeatable
from specpress.engine.observation import Observations
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.speculation.drafter import Drafter, Proposal


class CompressedTarget(Drafter):
    """Draft with the target on a copy of its cache that `press` has compressed.

    The prompt is read once, by the target. Tokens committed since the copy was made are in it uncompressed.

    Parameters
    ----------
    press : a kvpress ScorerPress (see `specpress.presses.get_press`)
    interval : int or None
        Copy and compress the target's cache anew once this many tokens have been committed; None does it only after the
        prompt. Tokens keep their true positions.

    Raises
    ------
    ValueError
        A press that cannot run, or not again and again with an interval; an interval under 1.
    """

    observes = True

    def __init__(self, press, interval: int | None = None):
        if interval is not None and interval < 1:
            raise ValueError(f"interval must be at least 1 token, got {interval}")
        if press is None:
            raise ValueError('self-speculation needs a press: get_press("knorm", compression_ratio=0.5) makes one')
        self.press, self.interval, self._compression = press, interval, Compression(press)
        if interval is not None:
            check_repeatable(press)

    def start(self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacity: int) -> None:
        """See `Drafter.start`."""
        self._sampling, self._randomness = sampling, randomness
        self._cached = CachedModel(target, capacity)

    def prefilled(self, target: CachedModel, observations: Observations | None) -> None:
        """See `Drafter.prefilled`."""
        self._target, self._observations = target, observations
        self._refresh()

    def _refresh(self) -> None:
        """Replace the draft's cache by a compressed copy of the target's."""
        self._cached.cache = self._target.cache.clone()
        compress(self._cached.cache, self.press, self._observations)
        self._refreshed = self._target.length

    def compressions(self) -> tuple[tuple[None, Compression]]:
        """See `Drafter.compressions`."""
        return ((None, self._compression),)

    def rows(self, batch: int) -> TargetRows:
        """See `Drafter.rows`: one forward serves the whole batch; each row is copied and compressed on its own."""
        return TargetRows(self.press, self.interval)

    def propose(self, context: Tensor, gamma: int, stop: Callable[[float], bool]) -> Proposal:
        """Sample up to `gamma` tokens from the target's law under the compressed cache."""
        if self.interval and self._target.length >= self._refreshed + self.interval:
            self._refresh()
        return draft(self._cached, context, gamma, stop, self._sampling, self._randomness)

    def rollback(self, length: int) -> None:
        """See `Drafter.rollback`; a copy that was compressed with tokens that do not stand is made anew.

        In a cascade it may be: the model that verifies, which has taken those tokens back by now, is the intermediate.
        """
        if length < self._refreshed:
            self._refresh()
        self._cached.rollback_to(length)
