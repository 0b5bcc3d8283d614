"""Drafting with a model, token by token, on its own cache."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from specpress.cached_model import CachedModel
from specpress.drafters.base import Proposal
from specpress.laws import law_of
from specpress.sampling import Randomness, SamplingParams


def draft(
    cached: CachedModel,
    context: Tensor,
    gamma: int,
    stop: Callable[[float], bool],
    sampling: SamplingParams,
    randomness: Randomness,
    head: np.ndarray | None = None,
) -> Proposal:
    """Sample up to `gamma` tokens after `context`, LongTensor (n,); `stop` ends drafting after an included token.

    The cache takes in what it lacks of the context, and all tokens drafted but the last. `head`: see `law_of`.
    """
    tokens, laws = [], []
    fed = context[cached.length :]
    while True:
        laws.append(law_of(cached.feed(fed[None])[0, -1], sampling, head))
        tokens.append(laws[-1].draw(randomness.uniform()))
        if len(tokens) == gamma or stop(laws[-1].probability(tokens[-1])):
            return Proposal(context.new_tensor(tokens), laws)
        fed = context.new_tensor(tokens[-1:])
