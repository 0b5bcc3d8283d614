"""Drafting for the rows of a batch together: one forward of the draft a token, whatever each row has accepted."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from specpress.cached_model import CachedModel
from specpress.drafters.base import Proposal, check_same_vocabulary
from specpress.laws import Law, Laws, draw, head_tokens
from specpress.presses.compression import compress
from specpress.ragged import RaggedModel, read_rows
from specpress.sampling import Randomness, SamplingParams


class ModelRows:
    """Draft with a model on a ragged cache. The counterpart of a drafter for several rows (see `RowByRow`).

    Parameters
    ----------
    model : causal LM; None: the target itself, on a copy of its cache
    press : compresses the draft's cache once, after the prompt; None keeps all slots
    """

    interval = None

    def __init__(self, model: nn.Module | None, press=None):
        self.model, self.press = model, press
        self.observes = model is None
        self._ragged: RaggedModel | None = None

    def models(self) -> tuple[nn.Module, ...]:
        """See `Drafter.models`."""
        return () if self.model is None else (self.model,)

    def start(self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacity: int) -> None:
        """See `Drafter.start`."""
        if self.model is not None:
            check_same_vocabulary(target, self.model)
        self._sampling, self._randomness = sampling, randomness
        self._cached = CachedModel(target if self.model is None else self.model, capacity)
        self._head = head_tokens(self._cached.model)

    def prefilled(self, target: CachedModel, observations) -> None:
        """See `Drafter.prefilled`."""
        if self.model is None:
            self._cached.cache = target.cache.clone()
            compress(self._cached.cache, self.press, observations)
            self._ragged = RaggedModel(self._cached, [0] * len(target.cache.layers[0].keys))

    def propose(self, contexts: Sequence[Tensor], gammas: Sequence[int], stop: Callable[[float], bool]):
        """Draft up to gammas[r] tokens after contexts[r], LongTensor (n,), for each row r: a list of `Proposal`s."""
        if self._ragged is None:
            self._ragged, _ = read_rows(self._cached, [context[:-1] for context in contexts], press=self.press)
        open_rows = [r for r, gamma in enumerate(gammas) if gamma]
        drafts: list[list[int]] = [[] for _ in gammas]
        laws: list[list[Law]] = [[] for _ in gammas]
        logits = self._feed_fresh(contexts, open_rows)
        while open_rows:
            found = Laws(logits[open_rows], self._sampling, self._head)
            tokens = draw(found, self._randomness)
            sure = [law.probability(token) for law, token in zip(found, tokens, strict=True)]
            for r, token, law in zip(open_rows, tokens, found, strict=True):
                drafts[r].append(token)
                laws[r].append(law)
            going_on = [len(drafts[r]) < gammas[r] and not stop(p) for r, p in zip(open_rows, sure, strict=True)]
            open_rows = [r for r, on in zip(open_rows, going_on, strict=True) if on]
            if open_rows:
                fed = contexts[0].new_zeros(len(contexts), 1)
                fed[open_rows, 0] = fed.new_tensor([drafts[r][-1] for r in open_rows])
                logits = self._ragged.feed(fed, [int(r in open_rows) for r in range(len(contexts))])[:, 0]
        return [Proposal(contexts[0].new_tensor(row), found) for row, found in zip(drafts, laws, strict=True)]

    def _feed_fresh(self, contexts: Sequence[Tensor], open_rows: list[int]) -> Tensor:
        """Feed what the drafting rows have committed since; returns the logits after it, (batch, head size)."""
        fresh = [contexts[r][length:] if r in open_rows else contexts[r][:0] for r, length in enumerate(self.lengths)]
        counts = [len(row) for row in fresh]
        logits = self._ragged.feed(torch.nn.utils.rnn.pad_sequence(fresh, batch_first=True), counts)
        last = torch.tensor([max(count - 1, 0) for count in counts], device=logits.device)
        return logits[torch.arange(len(counts), device=logits.device), last]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row that the draft has read."""
        return self._ragged.lengths

    def rollback(self, lengths: Sequence[int]) -> None:
        """Of each row r the first lengths[r] tokens stand."""
        if self._ragged is not None:
            self._ragged.rollback([max(0, a - b) for a, b in zip(self.lengths, lengths, strict=True)])
