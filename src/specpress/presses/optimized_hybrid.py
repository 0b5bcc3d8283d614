"""The original study's OptimizedHybrid press, "Hybrid Conservative" in its paper."""

from dataclasses import dataclass

from torch import Tensor

from specpress.presses.middle import MiddlePress, affinity, over_largest


@dataclass
class OptimizedHybridPress(MiddlePress):
    """Hybrid Conservative (original study): sinks, recent slots, and middle slots by 0.4 norm + 0.6 dot product.

    Norm: of the key. Dot product: with the last `window_size` keys. Both are averaged over heads, then divided by their
    largest.

    Parameters
    ----------
    compression_ratio : float, fraction of slots removed
    n_sink : int, first slots that always stay
    window_size : int, recent keys in the dot product
    recent_ratio : float, share of the budget that goes to recent slots; 0.3 was written into the original's code

    The original's switch `use_attention` is left out: without the dot product this is Adaptive with another share.
    """

    window_size: int = 16
    recent_ratio: float = 0.3

    def recent(self, kept: int) -> int:
        """See `MiddlePress.recent`."""
        return int(kept * self.recent_ratio)

    def rate(self, middle: Tensor, keys: Tensor) -> Tensor:
        """See the class."""
        norms, products = middle.norm(dim=-1).mean(1), affinity(middle, keys, self.window_size).mean(1)
        return 0.4 * over_largest(norms) + 0.6 * over_largest(products)
