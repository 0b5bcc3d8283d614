"""Read a prompt: fill the cache, show it to the drafter, compress it."""

from contextlib import nullcontext

from torch import Tensor

from specpress.cached_model import CachedModel
from specpress.drafters.base import Drafter
from specpress.presses.compression import compress, observed_attention


def prefill(cached: CachedModel, prompt: Tensor, *, press=None, drafter: Drafter | None = None) -> Tensor:
    """Feed a prompt, LongTensor (batch, n), to an empty cache; returns the logits after it, (batch, 1, vocabulary).

    The drafter sees the cache before `press` compresses it: a drafter's own compression removes a fraction of the
    prompt, whatever the target's removes.
    """
    observing = press is not None or (drafter is not None and drafter.observes)
    with observed_attention(cached.model) if observing else nullcontext([]) as observations:
        logits = cached.feed(prompt)
    if drafter is not None:
        drafter.prefilled(cached, observations)
    if press is not None:
        compress(cached.cache, press, observations)
    return logits
