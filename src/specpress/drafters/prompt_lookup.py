"""Drafting without a model: what followed the same words before (Saxena, 2023, "Prompt Lookup Decoding")."""

from collections.abc import Callable

from torch import Tensor

from specpress.laws.law import point
from specpress.speculation.drafter import Drafter, Proposal


class PromptLookup(Drafter):
    """Propose the continuation of the longest, most recent earlier occurrence of the last n-gram.

    Its law is one-hot, which makes it exact under sampling too: a proposed token x is accepted with probability P(x).

    Parameters
    ----------
    max_ngram : int
        Longest n-gram to look for; shorter ones are tried in turn, down to a single token.
    """

    def __init__(self, max_ngram: int = 3):
        if max_ngram < 1:
            raise ValueError(f"max_ngram must be at least 1, got {max_ngram}")
        self.max_ngram = max_ngram

    def propose(self, context: Tensor, gamma: int, stop: Callable[[float], bool]) -> Proposal:
        """The up to `gamma` tokens that followed the match; none without a match."""
        tokens = lookup(context.cpu(), self.max_ngram, gamma)  # the loop keeps its text on the host
        return Proposal(tokens, [point(token) for token in tokens.tolist()])


def lookup(context: Tensor, max_ngram: int, gamma: int) -> Tensor:
    """The tokens that followed the longest, then most recent, earlier occurrence of the context's last n-gram.

    Parameters
    ----------
    context : LongTensor (n,)
    max_ngram, gamma : int

    Returns
    -------
    LongTensor (m,), 0 <= m <= gamma
    """
    for size in range(min(max_ngram, len(context) - 1), 0, -1):
        # A window that starts at i matches the last n-gram; the windows exclude the n-gram itself.
        matches = (context[:-1].unfold(0, size, 1) == context[-size:]).all(-1).nonzero()
        if len(matches):
            start = int(matches[-1]) + size
            return context[start : start + gamma]
    return context[:0]
