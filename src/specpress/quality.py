"""Perplexity on a compressed cache: prefill, compress, then teacher-force the rest at true positions."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from specpress.attention import decode_attention
from specpress.cached_model import CachedModel
from specpress.presses.compression import compress, observed_attention

_CHUNK = 256  # tokens teacher-forced at once: bounds the memory of their logits


@dataclass(frozen=True)
class Perplexity:
    """ppl = exp(nll / n_tokens); nll: summed negative log-likelihood in nats; n_tokens: tokens scored."""

    ppl: float
    nll: float
    n_tokens: int
    kv_bytes: int


def perplexity(
    model: nn.Module,
    input_ids: Tensor,
    *,
    context: int,
    press=None,
    cache_budget: int | None = None,
    compression_interval: int | None = None,
) -> Perplexity:
    """Perplexity of the tokens after `context`, given a cache compressed once after the context.

    The first `context` tokens are prefilled and compressed; the others are fed at their true positions. The token at
    index `context` is predicted by uncompressed attention and not scored; every later one is.

    Parameters
    ----------
    model : any transformers Llama or GPT-NeoX causal LM
    input_ids : LongTensor (batch, length), length >= context + 2
    context : int, tokens to prefill
    press : a kvpress ScorerPress (see `specpress.presses.get_press`), or None for the uncompressed cache

    Returns
    -------
    Perplexity over all rows together (token-weighted); kv_bytes of the cache right after compression.

    Raises
    ------
    ValueError
        context < 1, too few tokens to score, or a length beyond the model's context.
    """
    if cache_budget is not None or compression_interval is not None:
        raise ValueError(
            "perplexity() compresses once, after the context: cache_budget and compression_interval come later"
        )
    return next(perplexities(model, input_ids, context=context, presses=[press]))


def perplexities(model: nn.Module, input_ids: Tensor, *, context: int, presses: Sequence) -> Iterator[Perplexity]:
    """`perplexity` for several presses or ratios, from one prefill. None stands for the uncompressed cache."""
    _check(model, input_ids, context)
    with decode_attention(model):
        target = CachedModel(model, input_ids.shape[1])
        with observed_attention(model) as observations:
            target.feed(input_ids[:, :context])
        full = target.cache
        for press in presses:
            target.cache = full.clone()
            if press is not None:
                compress(target.cache, press, observations)
            kv_bytes = target.cache.nbytes
            nll = _teacher_force(target, input_ids[:, context:])
            n_tokens = input_ids.shape[0] * (input_ids.shape[1] - context - 1)
            yield Perplexity(math.exp(nll / n_tokens), nll, n_tokens, kv_bytes)


def _teacher_force(target: CachedModel, tokens: Tensor) -> float:
    """Summed negative log-likelihood, in nats, of tokens[:, 1:], each given all before it."""
    nll = 0.0
    for start in range(0, tokens.shape[1] - 1, _CHUNK):
        fed = tokens[:, start : min(start + _CHUNK, tokens.shape[1] - 1)]
        logits = target.feed(fed, keep=fed.shape[1]).float()
        labels = tokens[:, start + 1 : start + 1 + fed.shape[1]]
        nll += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum"))
    return nll


def _check(model: nn.Module, input_ids: Tensor, context: int) -> None:
    if input_ids.dim() != 2:
        raise ValueError(f"input_ids must be (batch, length), got shape {tuple(input_ids.shape)}")
    length = input_ids.shape[1]
    if context < 1:
        raise ValueError(f"context must be at least 1 token, got {context}")
    if length < context + 2:
        raise ValueError(
            f"{length} tokens leave nothing to score after a context of {context}: give at least {context + 2}"
        )
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and length > limit:
        raise ValueError(f"{length} tokens do not fit the model's context of {limit} tokens")
