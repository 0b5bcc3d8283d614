"""The original study's Hybrid press: middle slots by key norm, likeness to recent keys, and position."""

from dataclasses import dataclass

import torch
from torch import Tensor

from specpress.presses.middle import MiddlePress, affinity, over_largest


@dataclass
class HybridPress(MiddlePress):
    """Hybrid (original study): sinks, recent slots, and middle slots by 0.3 norm + 0.5 dot product + 0.2 position.

    Norm: of the key. Dot product: with the last `window_size` keys. Position: exp(-(x - 0.5)^2 / 0.3) at the fraction x
    of the cache. Norms and products are divided by the largest of each head, sums averaged over heads.

    Parameters
    ----------
    compression_ratio : float, fraction of slots removed
    n_sink : int, first slots that always stay
    window_size : int, recent keys in the dot product
    recent_ratio : float, share of the budget that goes to recent slots

    The original's `recent_ratio` (0.4) had no effect, 0.2 being written into its code; here it has, and is 0.2. Its
    `knorm_threshold` had none either, and is left out.
    """

    n_sink: int = 8
    window_size: int = 64
    recent_ratio: float = 0.2

    def recent(self, kept: int) -> int:
        """See `MiddlePress.recent`."""
        return int(kept * self.recent_ratio)

    def rate(self, middle: Tensor, keys: Tensor) -> Tensor:
        """See the class."""
        norms, products = middle.norm(dim=-1), affinity(middle, keys, self.window_size)
        slots = torch.arange(self.n_sink, self.n_sink + middle.shape[2], device=keys.device)
        position = torch.exp(-((slots / keys.shape[2] - 0.5) ** 2) / 0.3)
        return (0.3 * over_largest(norms) + 0.5 * over_largest(products)).mean(1) + 0.2 * position
