"""Perplexity on a compressed cache: prefill, compress, then teacher-force the rest at true positions."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from specpress.decoding.brackets import bracketed
from specpress.decoding.inputs import check_family, check_tokens
from specpress.decoding.models import check_lengths, check_model
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.compression_settings import Compression, needs_attention_weights
from specpress.engine.observation import Observations
from specpress.engine.scores import Scores
from specpress.hardware.clock import clock
from specpress.laws.law import NO_NUMBERS
from specpress.speculation.prefill import keep_observing, read
from specpress.theory.parts import PRESSED

_CHUNK = 256  # tokens teacher-forced at once: bounds the memory of their logits


@dataclass(frozen=True)
class Perplexity:
    """How well the model predicts the scored tokens on a cache, and what the cache takes.

    ppl : exp(nll / n_tokens)
    nll : summed negative log-likelihood, in nats
    n_tokens : tokens scored
    kv_bytes, slots : of the cache right after the compression that follows the context; slots of its fullest layer
    acceptance : mean over the scored tokens of sum_x min(p(x), q(x)), p the uncompressed cache's law and q this one's,
        at temperature 1: the share of tokens drafted on this cache that the uncompressed model would accept. None where
        no press compresses, or it was not asked for.
    steps : one-token forwards on this cache, each between two on the uncompressed one, as the columns of
        `specpress.decoding.brackets`; None where that was not asked for
    """

    ppl: float
    nll: float
    n_tokens: int
    kv_bytes: int
    slots: int
    acceptance: float | None = None
    steps: dict[str, list] | None = None


def perplexity(
    model: nn.Module,
    input_ids: Tensor,
    *,
    context: int,
    press=None,
    cache_budget: int | None = None,
    compression_interval: int | None = None,
) -> Perplexity:
    """Perplexity of the tokens after `context`, given a cache that is compressed after the context.

    The first `context` tokens are prefilled and compressed; the others are fed at their true positions. The token at
    index `context` is predicted by uncompressed attention and not scored; every later one is. With a budget, the cache
    is compressed again every `compression_interval` tokens, exactly as `generate` does it.

    Parameters
    ----------
    model : any transformers causal LM, see `generate`
    input_ids : LongTensor (batch, length), length >= context + 2
    context : int, tokens to prefill
    press : a kvpress press (see `specpress.presses.get_press`), or None for the uncompressed cache
    cache_budget, compression_interval : see `specpress.presses.Compression`

    Returns
    -------
    Perplexity over all rows together (token-weighted).

    Raises
    ------
    ValueError
        context < 1, too few tokens to score, a length beyond the model's context, or a press that cannot do what is
        asked of it.
    """
    compression = Compression(press, cache_budget, compression_interval)
    return next(perplexities(model, input_ids, context=context, settings=[compression], acceptance=False))


def perplexities(
    model: nn.Module,
    input_ids: Tensor,
    *,
    context: int,
    settings: Sequence[Compression],
    timed_steps: int = 0,
    acceptance: bool = True,
) -> Iterator[Perplexity]:
    """`perplexity` for several ways of compressing, `Compression()` for none, from one prefill.

    All caches take each chunk of tokens in turn, so the uncompressed laws that `acceptance` compares with are computed
    once and never kept. Presses that score attention weights share a second prefill, with eager attention.

    Parameters
    ----------
    timed_steps : int, one-token forwards timed on each cache compressed once, between those on the uncompressed one;
        0: none. Under a budget a step reads the same slots.
    acceptance : bool, whether to compare each compressed cache's laws with the uncompressed one's

    Returns
    -------
    Iterator of Perplexity, in the order of `settings`; all are ready when the first comes.
    """
    _check(model, input_ids, context, settings)
    batch, length = input_ids.shape
    input_ids = input_ids.to(model.device, torch.long)
    with decode_attention(model):
        full, readers = _prefilled(model, input_ids[:, :context], length, settings)
        sizes = [{"kv_bytes": reader.cached.cache.nbytes, "slots": reader.cached.cache.slots} for reader in readers]
        token = input_ids[:, context : context + 1]
        steps = [_steps(full, reader, token, timed_steps) for reader in readers]
        _teacher_force(full if acceptance else None, readers, input_ids[:, context:])
    n_tokens = batch * (length - context - 1)
    for reader, size, timed in zip(readers, sizes, steps, strict=True):
        compared = acceptance and reader.compresses
        overlap = reader.overlap / n_tokens if compared else None
        if not math.isfinite(reader.nll):
            raise ValueError(NO_NUMBERS)
        ppl = math.exp(reader.nll / n_tokens)
        yield Perplexity(ppl, reader.nll, n_tokens, **size, acceptance=overlap, steps=timed)


class _Reader:
    """A cache under one way of compressing, and what it has come to: summed `nll` in nats and `overlap` of laws."""

    def __init__(self, cached: CachedModel, compression: Compression, scores: Scores):
        self.cached, self.compression = cached, compression
        self.context = cached.length
        self.nll = self.overlap = 0.0
        self._compress(decoding=False, scores=scores)
        keep_observing(cached, compression.press if compression.cache_budget is not None else None)

    @property
    def compresses(self) -> bool:
        return self.compression.press is not None

    def read(self, tokens: Tensor) -> Tensor:
        """Feed tokens, (batch, n), compressing where it is due; returns the logits after each, in float32."""
        logits = []
        while tokens.shape[1]:
            if self.compression.due(self.cached.length, self.context):
                self._compress(decoding=True)
            fed = tokens[:, : self.compression.room(self.cached.length, self.context)]
            logits.append(self.cached.feed(fed, keep=fed.shape[1]))
            tokens = tokens[:, fed.shape[1] :]
        return torch.cat(logits, 1).float()

    def _compress(self, decoding: bool, scores: Scores | None = None) -> None:
        if self.compresses:
            self.cached.compress(self.compression.press, self.compression.cache_budget, decoding, scores)


def _prefilled(
    model: nn.Module, prompt: Tensor, capacity: int, settings: Sequence[Compression]
) -> tuple[CachedModel, list[_Reader]]:
    """The uncompressed cache after the prompt, and a compressed copy for each setting."""
    prefills: dict[bool, CachedModel] = {}
    observed = any(setting.press is not None for setting in settings)
    scores = {eager: Scores() for eager in (False, True)}
    readers = []
    for setting in settings:
        eager = needs_attention_weights(setting.press)
        if eager not in prefills:
            prefills[eager] = CachedModel(model, capacity)
            prefills[eager].observations = Observations(model) if observed else None
            read(prefills[eager], prompt, setting.press)
        readers.append(_Reader(prefills[eager].copied(), setting, scores[eager]))
    full = prefills.get(False) or prefills[True]
    full.observations = None
    return full, readers


def _teacher_force(full: CachedModel | None, readers: list[_Reader], tokens: Tensor) -> None:
    """Add to each reader's `nll` that of tokens[:, 1:], each given all before it, and to its `overlap` with `full`."""
    for start in range(0, tokens.shape[1] - 1, _CHUNK):
        fed = tokens[:, start : min(start + _CHUNK, tokens.shape[1] - 1)]
        labels = tokens[:, start + 1 : start + 1 + fed.shape[1]].flatten()
        law = None if full is None else full.feed(fed, keep=fed.shape[1]).float().softmax(-1)
        for reader in readers:
            logits = reader.read(fed)
            reader.nll += float(nn.functional.cross_entropy(logits.flatten(0, 1), labels, reduction="sum"))
            if law is not None and reader.compresses:
                reader.overlap += float(torch.minimum(law, logits.softmax(-1)).sum())


def _steps(full: CachedModel, reader: _Reader, token: Tensor, rounds: int) -> dict[str, list] | None:
    """Feeding `token`, (batch, 1), to the reader's cache, between doing so to `full`; both stay as before."""
    if not rounds or not reader.compresses or reader.compression.cache_budget is not None:
        return None
    parts = {(PRESSED, 1): lambda: _step_seconds(reader.cached, token)}
    return bracketed(parts, lambda: _step_seconds(full, token), rounds)


def _step_seconds(cached: CachedModel, token: Tensor) -> float:
    started = clock(token.device)
    cached.feed(token)
    seconds = clock(token.device) - started
    cached.rollback_to(cached.length - 1)
    return seconds


def _check(model: nn.Module, input_ids: Tensor, context: int, settings: Sequence[Compression]) -> None:
    check_model(model)
    check_tokens(model, input_ids)
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
    pressed = [model] if any(setting.press is not None for setting in settings) else []
    if pressed:
        check_family(model)
    check_lengths(model, (), [context], length - context, drafted=True, unwindowed=pressed)
    for setting in settings:
        setting.check_prompt(context)
