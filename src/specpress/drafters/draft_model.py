"""A smaller causal language model as the drafter (Leviathan et al., 2023), of a path or of a tree along it."""

from collections.abc import Callable

from torch import Tensor, nn

from specpress.drafters.branching import Branching
from specpress.drafters.rows import ModelRows
from specpress.engine.cached_model import CachedModel
from specpress.engine.compression_settings import Compression
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.models.feature_head import feature_layers
from specpress.speculation.drafter import Drafter, Proposal, check_same_vocabulary
from specpress.speculation.prefill import prefill


class DraftModel(Drafter):
    """Draft with `model`, token by token, on its own KV cache.

    Parameters
    ----------
    model : causal LM with the target's vocabulary
        Its output head may cover a subset of it: `model.head_token_ids` (LongTensor (k,)) then says which tokens.
    press : a kvpress ScorerPress or None
        Compresses the draft's cache once, after the prompt. The output law stays the target's: verification does not
        look at this cache.
    children : int
        Tokens proposed after each one of the path, drawn without replacement; the path goes on from the first. 1 is a
        path. Greedy drafting takes the most likely.
    likely : bool
        Take the most likely tokens as children under sampling too, which are not drawn then.

    Raises
    ------
    ValueError
        A press that cannot run; children under 1; a feature head, which drafts from its target's hidden states alone.
    """

    def __init__(self, model: nn.Module, press=None, *, children: int = 1, likely: bool = False):
        if feature_layers(model):
            raise ValueError("the model is a feature head, which needs its target's hidden states: use FeatureHead")
        self.model, self.press, self._compression = model, press, Compression(press)
        self._branching, self.branches = Branching(children, likely), children > 1

    def start(self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacity: int) -> None:
        """See `Drafter.start`."""
        check_same_vocabulary(target, self.model)
        self._sampling, self._randomness = sampling, randomness
        self._cached, self._capacity = CachedModel(self.model, capacity), capacity

    def models(self) -> tuple[nn.Module]:
        """See `Drafter.models`."""
        return (self.model,)

    def compressions(self) -> tuple[tuple[nn.Module, Compression], ...]:
        """See `Drafter.compressions`."""
        return () if self.press is None else ((self.model, self._compression),)

    def rows(self, batch: int) -> ModelRows:
        """See `Drafter.rows`: one forward of the draft model serves the whole batch."""
        return ModelRows(self.model, self.press) if self._branching.of_paths else super().rows(batch)

    def propose(self, context: Tensor, gamma: int, stop: Callable[[float], bool]) -> Proposal:
        """Sample up to `gamma` tokens from the draft model's own law, children of one path."""
        if self.press is not None and not self._cached.length:
            prefill(self._cached, context[None, :-1], press=self.press)
        room = self._capacity - len(context)
        return self._branching.draft(self._cached, context, gamma, room, stop, self._sampling, self._randomness)

    def rollback(self, length: int) -> None:
        """See `Drafter.rollback`."""
        self._cached.rollback_to(length)
