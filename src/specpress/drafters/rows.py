"""Drafting for the rows of a batch together: one forward of the draft a token, whatever each row has accepted."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from specpress.engine.cached_model import CachedModel
from specpress.engine.ragged_model import RaggedModel
from specpress.laws.law import Law, Laws
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.speculation.drafter import Proposal, check_same_vocabulary
from specpress.speculation.prefill import read_rows


class ModelRows:
    """Draft with a model on a ragged cache. The counterpart of a drafter for several rows (see `RowByRow`).

    Parameters
    ----------
    model : causal LM
    press : compresses the draft's cache once, after the prompt; None keeps all slots
    """

    observes = branches = False
    reads = ()
    learns = 0

    def __init__(self, model: nn.Module, press=None):
        self.model, self.press = model, press
        self._ragged: RaggedModel | None = None

    def models(self) -> tuple[nn.Module, ...]:
        """See `Drafter.models`."""
        return (self.model,)

    def start(
        self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacities: Sequence[int]
    ) -> None:
        """See `Drafter.start`."""
        check_same_vocabulary(target, self.model)
        self._sampling, self._randomness = sampling, randomness
        self._cached = CachedModel(self.model, max(capacities))

    def prefilled(self, target: RaggedModel, observations) -> None:
        """See `Drafter.prefilled`."""

    def read(self, prompts: Sequence[Tensor]) -> None:
        """See `Drafter.read`."""

    def propose(
        self, contexts: Sequence[Tensor], gammas: Sequence[int], stop: Callable[[float], bool]
    ) -> list[Proposal]:
        """Draft up to gammas[r] tokens after contexts[r], LongTensor (n,), for each row r."""
        open_rows = [r for r, gamma in enumerate(gammas) if gamma]
        if open_rows and self._ragged is None:
            self._ragged, _ = read_rows(self._cached, [context[:-1] for context in contexts], press=self.press)
        drafts: list[list[int]] = [[] for _ in gammas]
        laws: list[list[Law]] = [[] for _ in gammas]
        logits = self._feed_fresh(contexts, open_rows) if open_rows else None
        while open_rows:
            found = Laws(logits[open_rows], self._sampling, self._ragged.head_tokens)
            drawn, sure = found.draw(self._randomness)
            tokens = drawn.tolist()
            for r, token, law in zip(open_rows, tokens, found, strict=True):
                drafts[r].append(token)
                laws[r].append(law)
            going_on = [not stop(p) and len(drafts[r]) < gammas[r] for r, p in zip(open_rows, sure, strict=True)]
            open_rows = [r for r, on in zip(open_rows, going_on, strict=True) if on]
            if open_rows:
                fed = contexts[0].new_zeros(len(contexts), 1)
                fed[open_rows, 0] = fed.new_tensor([drafts[r][-1] for r in open_rows])
                logits = self._ragged.feed(fed, [int(r in open_rows) for r in range(len(contexts))])[:, 0]
        return [Proposal(contexts[0].new_tensor(row), found) for row, found in zip(drafts, laws, strict=True)]

    def _feed_fresh(self, contexts: Sequence[Tensor], open_rows: list[int]) -> Tensor:
        """Feed what the drafting rows have committed since; returns the logits after it, (batch, head size)."""
        lengths = self._ragged.lengths
        fresh = [contexts[r][length:] if r in open_rows else contexts[r][:0] for r, length in enumerate(lengths)]
        counts = [len(row) for row in fresh]
        logits = self._ragged.feed(torch.nn.utils.rnn.pad_sequence(fresh, batch_first=True), counts)
        last = torch.tensor([max(count - 1, 0) for count in counts], device=logits.device)
        return logits[torch.arange(len(counts), device=logits.device), last]

    def rollback(self, lengths: Sequence[int]) -> None:
        """Of each row r the first lengths[r] tokens stand."""
        if self._ragged is not None:
            self._ragged.rollback_to(lengths)


class TargetRows(ModelRows):
    """Draft with the target itself, each row on a compressed copy of its cache.

    Parameters
    ----------
    press : compresses the copies
    interval : copy and compress a row's cache anew once it has committed this many tokens; None does it only once
    """

    observes = True

    def __init__(self, press, interval: int | None = None):
        super().__init__(None, press)
        self.interval = interval

    def models(self) -> tuple[()]:
        """See `Drafter.models`."""
        return ()

    def start(
        self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacities: Sequence[int]
    ) -> None:
        """See `Drafter.start`."""
        self.model = target
        super().start(target, sampling, randomness, capacities)

    def prefilled(self, target: RaggedModel, observations) -> None:
        """See `Drafter.prefilled`."""
        self._target, self._ragged = target, target.clone()
        self._ragged.observations = None
        self._refreshed = list(target.lengths)
        for r in range(len(target.lengths)):
            self._refresh(r)

    def _refresh(self, r: int) -> None:
        """Replace row r of the draft's cache by a compressed copy of the target's."""
        self._ragged.cache.put(r, self._target.compressed(r, self.press))
        self._refreshed[r] = self._target.lengths[r]

    def propose(
        self, contexts: Sequence[Tensor], gammas: Sequence[int], stop: Callable[[float], bool]
    ) -> list[Proposal]:
        """See `ModelRows.propose`."""
        for r, gamma in enumerate(gammas):
            if gamma and self.interval and self._target.lengths[r] >= self._refreshed[r] + self.interval:
                self._refresh(r)
        return super().propose(contexts, gammas, stop)

    def rollback(self, lengths: Sequence[int]) -> None:
        """See `ModelRows.rollback`; a row that was compressed with tokens that do not stand is copied anew."""
        for r, length in enumerate(lengths):
            if length < self._refreshed[r]:
                self._refresh(r)
        super().rollback(lengths)
