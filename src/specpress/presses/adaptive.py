"""The original study's Adaptive press: StreamingLLM with part of the window given to slots of large key norm."""

from dataclasses import dataclass

from torch import Tensor

from specpress.presses.middle import MiddlePress


@dataclass
class AdaptivePress(MiddlePress):
    """Adaptive (original study): sinks, recent slots, and the middle slots of highest mean key norm.

    Parameters
    ----------
    compression_ratio : float, fraction of slots removed
    n_sink : int, first slots that always stay
    recent_ratio : float, share of the budget beside the sinks that goes to recent slots

    The original's `middle_ratio` had no effect (the middle got what was left) and is left out.
    """

    recent_ratio: float = 0.4

    def recent(self, kept: int) -> int:
        """See `MiddlePress.recent`."""
        return int((kept - self.n_sink) * self.recent_ratio)

    def rate(self, middle: Tensor, keys: Tensor) -> Tensor:
        """Key norms, averaged over heads."""
        return middle.norm(dim=-1).mean(1)
