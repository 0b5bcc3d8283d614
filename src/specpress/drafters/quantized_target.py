"""The target drafts for itself with its own weights in fewer bits: nothing to train, and no second model to find.

ML-SpecQD (Georganas et al., 2025) drafts so with four-bit weights on CPUs. A decoding step reads every weight once and
does little else, so a step of the copy takes as much less time as its weights are fewer bytes.

The copy reads the target's own cache: every committed token's keys and values are those that verification left there,
exact, and drafting adds its own behind them for the length of a proposal. So there is no second cache, no second
reading of the prompt, and nothing to catch up on after a round.
"""

import weakref
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from specpress.drafters.autoregressive import draft
from specpress.drafters.rows import ModelRows
from specpress.engine.attention import ATTENTION
from specpress.engine.cached_model import CachedModel
from specpress.engine.observation import Observations
from specpress.engine.ragged_model import RaggedModel
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.models.quantized import GROUP, quantized_copy
from specpress.speculation.drafter import Drafter, Proposal

_copies: "weakref.WeakKeyDictionary[nn.Module, dict[tuple, tuple]]" = weakref.WeakKeyDictionary()


class QuantizedTarget(Drafter):
    """Draft with a copy of the target in fewer bits, on the target's own cache.

    Parameters
    ----------
    bits : 4 or 8, of the weights of the linear maps and of the output head; embeddings and norms stay as they are
    group : numbers of a row that share a scale, a multiple of 32; more is coarser
    symmetric : whether groups do without an offset, which is coarser; eight bits always do

    Raises
    ------
    ValueError
        Other numbers; in `start`, for a target that cannot be held so (see `quantized_copy`).
    """

    def __init__(self, bits: int = 4, group: int = GROUP, symmetric: bool = False):
        if bits not in (4, 8):
            raise ValueError(f"bits must be 4 or 8, got {bits}")
        if group < GROUP or group % GROUP:
            raise ValueError(f"group must be a multiple of {GROUP}, got {group}")
        self.settings = (bits, group, symmetric)

    def start(self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacity: int) -> None:
        """See `Drafter.start`."""
        self._sampling, self._randomness = sampling, randomness
        self._cached = CachedModel(copy_of(target, *self.settings), 0)

    def prefilled(self, target: CachedModel, observations: Observations | None) -> None:
        """See `Drafter.prefilled`."""
        self._target = target

    def rows(self, batch: int) -> "QuantizedRows":
        """See `Drafter.rows`: one forward of the copy serves the whole batch."""
        return QuantizedRows(self.settings)

    def propose(self, context: Tensor, gamma: int, stop: Callable[[float], bool]) -> Proposal:
        """Sample up to `gamma` tokens from the law of the copy; the target's cache is left as it was."""
        self._cached.cache, before = self._target.cache, self._target.length
        proposal = draft(self._cached, context, gamma, stop, self._sampling, self._randomness)
        self._cached.rollback_to(before)
        return proposal


class QuantizedRows(ModelRows):
    """`QuantizedTarget` for the rows of a batch, on the target's own ragged cache.

    settings : bits, group, symmetric
    """

    def __init__(self, settings: tuple[int, int, bool]):
        super().__init__(None)
        self._settings = settings

    def models(self) -> tuple[()]:
        """See `Drafter.models`."""
        return ()

    def start(
        self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacities: Sequence[int]
    ) -> None:
        """See `Drafter.start`."""
        self.model = copy_of(target, *self._settings)
        super().start(target, sampling, randomness, capacities)

    def prefilled(self, target: RaggedModel, observations) -> None:
        """See `Drafter.prefilled`."""
        self._ragged = target.run_by(self._cached)

    def propose(
        self, contexts: Sequence[Tensor], gammas: Sequence[int], stop: Callable[[float], bool]
    ) -> list[Proposal]:
        """See `ModelRows.propose`; the target's cache is left as it was."""
        before = self._ragged.lengths
        proposals = super().propose(contexts, gammas, stop)
        self._ragged.rollback_to(before)
        return proposals

    def rollback(self, lengths: Sequence[int]) -> None:
        """The cache is the target's, which has been taken back already."""


def copy_of(target: nn.Module, bits: int, group: int, symmetric: bool) -> nn.Module:
    """The quantised copy of a target as its weights are now; made once, and anew when autograd has seen them change."""
    settings = (bits, group, symmetric)
    stamp = tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in target.parameters())
    known = _copies.setdefault(target, {})
    if settings not in known or known[settings][0] != stamp:
        copied = quantized_copy(target, *settings)
        copied.set_attn_implementation(ATTENTION)  # nobody else decodes with it
        known[settings] = (stamp, copied)
    copied = known[settings][1]
    copied.token_count = getattr(target, "token_count", None)
    return copied
