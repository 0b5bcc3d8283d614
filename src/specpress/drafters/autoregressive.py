"""Drafting with a model, token by token, on its own cache."""

from collections.abc import Callable

import torch
from torch import Tensor

from specpress.engine.cached_model import CachedModel
from specpress.laws.engines import joined, laws_of
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.schedules.base import never
from specpress.speculation.drafter import Proposal


def draft(
    cached: CachedModel,
    context: Tensor,
    gamma: int,
    stop: Callable[[float], bool],
    sampling: SamplingParams,
    randomness: Randomness,
) -> Proposal:
    """Sample up to `gamma` tokens after `context`, LongTensor (n,); `stop` ends drafting after an included token.

    The cache takes in what it lacks of the context, and all tokens drafted but the last. On a GPU the steps follow each
    other without a read on the host, unless there is a `stop` to ask: it is told the probability of every token.
    """
    tokens, laws = [], []
    fed = context[cached.length :]
    while True:
        law = laws_of(cached.feed(fed[None])[0, -1:], sampling, cached.head_tokens)
        fed, (probability,) = law.draw(randomness)
        tokens.append(fed)
        laws.append(law)
        if (stop is not never and stop(float(probability))) or len(tokens) == gamma:
            return Proposal(torch.cat(tokens), joined(laws))
