"""Read a prompt: fill the cache, show it to the drafter, compress it."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.compression_settings import needs_attention_weights, recent_tokens
from specpress.engine.observation import Observations
from specpress.engine.ragged_model import RaggedModel
from specpress.engine.states import HiddenStates
from specpress.laws.law import NO_NUMBERS
from specpress.speculation.drafter import Drafter


def prefill(
    cached: CachedModel,
    prompt: Tensor,
    *,
    press=None,
    budget: int | None = None,
    drafter: Drafter | None = None,
) -> Tensor:
    """Feed a prompt, LongTensor (batch, n), to an empty cache; returns the logits after it, (batch, 1, vocabulary).

    The drafter sees the cache before `press` compresses it: a drafter's own compression removes a fraction of the
    prompt, whatever the target's removes. `cached` goes on being observed if press or drafter will compress again.
    """
    keep = 1 if drafter is None else max(1, min(drafter.learns, prompt.shape[1]))
    logits = read_observed(cached, prompt, press, drafter, keep)
    if drafter is not None:
        drafter.read(prompt[0])
        if drafter.learns:
            drafter.learn(prompt[0, -keep:], logits[0])
    settle(cached, press, budget, drafter)
    cached.make_ready()
    return logits[:, -1:]


def read_observed(
    cached: CachedModel, prompt: Tensor, press, drafter: Drafter | None, keep: int | Tensor = 1
) -> Tensor:
    """The first half of `prefill`: read the prompt, and note what press and drafter will need."""
    drafting = _observing_press(drafter)
    if press is not None or drafting is not None:
        cached.observations = Observations(cached.model)
    if drafter is not None and drafter.reads:
        cached.states = HiddenStates(drafter.reads)
    return read(cached, prompt, press, drafting, keep=keep)


def settle(cached: CachedModel | RaggedModel, press, budget: int | None, drafter: Drafter | None) -> None:
    """The second half of `prefill`: show the cache to the drafter, compress it, keep what later compressions need."""
    drafting = _observing_press(drafter)
    if drafter is not None:
        drafter.prefilled(cached, cached.observations)
    if press is not None:
        cached.compress(press, budget)
    keep_observing(cached, press if budget is not None else None, drafting if drafting and drafter.interval else None)


def _observing_press(drafter: Drafter | None):
    return drafter.press if drafter is not None and drafter.observes else None


def read(cached: CachedModel, prompt: Tensor, *presses, keep: int | Tensor = 1) -> Tensor:
    """Feed a prompt with the attention that the presses can learn from; returns the logits of `keep`.

    Raises ValueError if they are no numbers: greedy decoding would go on regardless.
    """
    eager = any(needs_attention_weights(press) for press in presses)
    with decode_attention(cached.model, implementation="eager") if eager else nullcontext():
        logits = cached.feed(prompt, keep)
    if logits[:, -1].isnan().any():
        raise ValueError(NO_NUMBERS)
    return logits


def keep_observing(cached: CachedModel | RaggedModel, *presses) -> None:
    """From now on keep as many hidden states as the presses need while decoding; None of them observes no more."""
    tokens = max((recent_tokens(press) for press in presses if press is not None), default=0)
    if tokens:
        cached.observations.keep_last(tokens)
    else:
        cached.observations = None


def read_rows(
    cached: CachedModel,
    rows: Sequence[Tensor],
    *,
    press=None,
    budget: int | None = None,
    drafter: Drafter | None = None,
) -> tuple[RaggedModel, Tensor]:
    """`prefill` for rows, LongTensor (n,) each; returns the model on its ragged cache, and the logits after each row.

    Shorter rows are padded on the right, which causal attention hides from their tokens.
    """
    lengths = [len(row) for row in rows]
    longest = max(lengths)
    tokens = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    learnt = 1 if drafter is None else max(1, min(drafter.learns, longest))
    places = (torch.tensor(lengths)[:, None] - learnt + torch.arange(learnt)).clamp_(min=0)
    logits = read_observed(cached, tokens, press, drafter, keep=places.to(cached.device))
    ragged = RaggedModel(cached, [longest - length for length in lengths])
    if drafter is not None:
        drafter.read(rows)
        for r, row in enumerate(rows if drafter.learns else ()):
            last = row[-learnt:]
            drafter.learn(r, last, logits[r, -len(last) :])
    settle(ragged, press, budget, drafter)
    return ragged, logits[:, -1]
