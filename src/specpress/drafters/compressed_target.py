"""Self-speculation: the target drafts for itself on a compressed copy of its own cache.

Verification runs on the full cache, so the output law is the uncompressed target's. MagicDec (Chen et al., 2024) and
TriForce (Sun et al., 2024) draft this way, each with one press; here the press is a parameter.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from specpress.cached_model import CachedModel
from specpress.drafters.base import Drafter, Proposal
from specpress.presses.compression import compress, observed_attention
from specpress.sampling import Randomness, SamplingParams, draw, probabilities


class CompressedTarget(Drafter):
    """Draft with the target on a cache compressed by `press` after the prompt.

    The drafter prefills the prompt for itself (a second prefill: its time is part of the first round) and compresses
    once; later tokens are appended uncompressed.

    Parameters
    ----------
    press : a kvpress ScorerPress (see `specpress.presses.get_press`)
    """

    def __init__(self, press):
        self.press = press

    def start(self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacity: int) -> None:
        """See `Drafter.start`."""
        self._target, self._sampling, self._randomness = target, sampling, randomness
        self._cached = CachedModel(target, capacity)

    def propose(self, context: Tensor, gamma: int, stop: Callable[[float], bool]) -> Proposal:
        """Sample up to `gamma` tokens from the target's law under the compressed cache."""
        if not self._cached.length:
            self._prefill(context[:-1])
        tokens, laws = [], []
        fed = context[self._cached.length :]
        for _ in range(gamma):
            law = probabilities(self._cached.feed(fed[None])[0, -1], self._sampling)
            fed = draw(law, self._randomness.uniforms())[None]
            tokens.append(fed)
            laws.append(law)
            if stop(float(law[fed])):
                break
        return Proposal(torch.cat(tokens), torch.stack(laws))

    def _prefill(self, prompt: Tensor) -> None:
        """Feed the prompt and compress its cache; the last token is left for the first draft."""
        if len(prompt):
            with observed_attention(self._target) as observations:
                self._cached.feed(prompt[None])
            compress(self._cached.cache, self.press, observations)

    def rollback(self, length: int) -> None:
        """See `Drafter.rollback`."""
        self._cached.rollback_to(length)
