"""What the original study's three presses share: sinks and recent slots always stay, the middle ones are rated."""

from dataclasses import dataclass

import torch.nn.functional as F
from kvpress import ScorerPress
from kvpress.utils import compute_n_kept
from torch import Tensor


@dataclass
class MiddlePress(ScorerPress):
    """Keep the first `n_sink` slots and some recent ones; fill the budget with the middle slots rated highest.

    As in the original study, all KV heads keep the same slots. Its presses saw the incoming keys before attention and
    chose once for a whole batch; these see the whole cache after attention, and each row chooses for itself.
    """

    compression_ratio: float = 0.0
    n_sink: int = 4

    def recent(self, kept: int) -> int:
        """Recent slots that always stay, of `kept` in all."""
        raise NotImplementedError

    def rate(self, middle: Tensor, keys: Tensor) -> Tensor:
        """Importance of the middle slots, (batch, slots), from their keys and all keys, (batch, heads, slots, size)."""
        raise NotImplementedError

    def score(self, module, hidden_states, keys, values, attentions, kwargs) -> Tensor:
        """See kvpress's `ScorerPress.score`."""
        heads, slots = keys.shape[1:3]
        kept = compute_n_kept(slots, self.compression_ratio)
        assert kept > self.n_sink, f"keeping {kept} slots leaves none beside n_sink={self.n_sink}"
        recent = min(max(self.recent(kept), 1), kept - self.n_sink)
        keys = keys.float()
        rating = self.rate(keys[:, :, self.n_sink : slots - recent], keys)
        rating = F.pad(rating, (self.n_sink, recent), value=rating.max().item() + 1)
        return rating[:, None].expand(-1, heads, -1)


def affinity(middle: Tensor, keys: Tensor, window: int) -> Tensor:
    """Mean dot product of the middle keys with the last `window` keys, (batch, KV heads, middle slots).

    The original study calls it attention: recent keys stand in for queries, which its presses never see.
    """
    assert keys.shape[2] > window, f"{keys.shape[2]} slots are no more than window_size={window}"
    return (middle @ keys[:, :, -window:].mean(2).unsqueeze(-1)).squeeze(-1)


def over_largest(rating: Tensor) -> Tensor:
    """A rating over its largest value, (..., slots): how the original study scales the terms it adds up."""
    return rating / (rating.amax(-1, keepdim=True) + 1e-8)
