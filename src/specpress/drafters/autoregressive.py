"""Drafting with a model, token by token, on its own cache."""

from collections.abc import Callable

from torch import Tensor

from specpress.engine.cached_model import CachedModel
from specpress.laws.law import law_of
from specpress.laws.sampling import Randomness, SamplingParams
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

    The cache takes in what it lacks of the context, and all tokens drafted but the last.
    """
    tokens, laws = [], []
    fed = context[cached.length :]
    while True:
        law = law_of(cached.feed(fed[None])[0, -1], sampling, cached.head_tokens)
        token, probability = law.draw(randomness.uniform())
        tokens.append(token)
        laws.append(law)
        if len(tokens) == gamma or stop(probability):
            return Proposal(context.new_tensor(tokens), laws)
        fed = context.new_tensor([token])
