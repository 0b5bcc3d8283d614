"""Answers on a compressed cache: read a context, compress, then feed a question and go on greedily.

The press either does not see the question, which is fed to the compressed cache (question-agnostic, as in kvpress's
evaluation), or sees it at the end of what is compressed (question-aware). The beginning of the answer is fed to the
compressed cache in either case: no token of the answer is predicted by attention to what was evicted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from specpress.decoding.inputs import check_context, check_family, check_tokens, token_set, until_end
from specpress.decoding.models import check_lengths, check_model
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.compression_settings import Compression, needs_attention_weights
from specpress.engine.observation import Observations
from specpress.engine.scores import Scores
from specpress.laws.engines import laws_of
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.speculation.prefill import read


@dataclass(frozen=True)
class Setting:
    """One way to answer: what compresses, once, and whether it sees the question (`aware`)."""

    compression: Compression
    aware: bool = False


@dataclass(frozen=True)
class Answers:
    """What was said, and the cache it was said on.

    tokens : LongTensor (n,) a row, up to the end of text
    kv_bytes, slots : of the cache of all rows right after the compression; slots of its fullest layer
    """

    tokens: list[Tensor]
    kv_bytes: int
    slots: int


def answers(
    model: nn.Module,
    contexts: Tensor,
    questions: Tensor,
    leads: Tensor,
    *,
    settings: Sequence[Setting],
    max_new_tokens: int,
    eos_token_id=None,
) -> Iterator[Answers]:
    """Greedy answers to a question each, for several ways of compressing, from one prefill of the contexts.

    Presses that score attention weights have the context read again, with eager attention, and so has every question
    they are to see.

    Parameters
    ----------
    model : any transformers causal LM that `generate` takes and presses support
    contexts, questions, leads : LongTensor (batch, n) each: what is read, what is asked, how the answers begin (a token
        at least)
    settings : the ways, without a cache budget
    max_new_tokens : int, never exceeded
    eos_token_id : end-of-text token(s)

    Returns
    -------
    Iterator of Answers, in the order of `settings`.

    Raises
    ------
    ValueError
        For what cannot be decoded, as `generate`.
    """
    prompt = torch.cat([contexts, questions, leads], 1)
    check_model(model)
    check_tokens(model, prompt)
    check_context(model, prompt.shape[1], max_new_tokens, "the model's")
    pressed = any(setting.compression.press is not None for setting in settings)
    if pressed:
        check_family(model)
    check_lengths(model, (), [prompt.shape[1]], max_new_tokens, drafted=True, unwindowed=[model] if pressed else [])
    for setting in settings:
        setting.compression.check_prompt(contexts.shape[1])
    stop, capacity = token_set(eos_token_id), prompt.shape[1] + max_new_tokens
    with decode_attention(model):
        prefills = _Prefills(model, contexts, questions, capacity, observed=pressed)
        for setting in settings:
            cached = prefills.copy(setting)
            if setting.compression.press is not None:
                cached.compress(setting.compression.press, scores=prefills.scores(setting))
            cached.observations = None
            sizes = {"kv_bytes": cached.cache.nbytes, "slots": cached.cache.slots}
            fed = leads if setting.aware else torch.cat([questions, leads], 1)
            yield Answers(_greedy(cached, fed, max_new_tokens, stop), **sizes)


class _Prefills:
    """The uncompressed caches that settings start from, each read when first asked for."""

    def __init__(self, model: nn.Module, contexts: Tensor, questions: Tensor, capacity: int, *, observed: bool):
        self.model, self.contexts, self.questions = model, contexts, questions
        self.capacity, self.observed = capacity, observed
        self._read: dict[tuple[bool, bool], CachedModel] = {}
        self._scores: dict[tuple[bool, bool], Scores] = {}

    def copy(self, setting: Setting) -> CachedModel:
        """A copy of the cache that `setting` compresses."""
        key = _key(setting)
        if key not in self._read:
            self._read[key] = self._prefilled(setting.compression.press, *key)
        return self._read[key].copied()

    def scores(self, setting: Setting) -> Scores:
        """What presses have said to that cache."""
        return self._scores.setdefault(_key(setting), Scores())

    def _prefilled(self, press, eager: bool, aware: bool) -> CachedModel:
        if aware and not eager:  # the question goes on from the context; attention weights would be those of a part
            cached = self.copy(Setting(Compression()))
            cached.feed(self.questions)
            return cached
        cached = CachedModel(self.model, self.capacity)
        cached.observations = Observations(self.model) if self.observed else None
        read(cached, torch.cat([self.contexts, self.questions], 1) if aware else self.contexts, press)
        return cached


def _key(setting: Setting) -> tuple[bool, bool]:
    """What the cache that a setting compresses depends on."""
    return needs_attention_weights(setting.compression.press), setting.aware


def _greedy(cached: CachedModel, fed: Tensor, most: int, stop: frozenset[int]) -> list[Tensor]:
    """What the model says after `fed`, (batch, n), a token of every row at a time."""
    rows, sampling = torch.empty(len(fed), 0, dtype=torch.long), SamplingParams(temperature=0)
    while True:
        laws = laws_of(cached.feed(fed)[:, -1], sampling, cached.head_tokens)
        fed = laws.take(Randomness(sampling.seed))[:, None]
        rows = torch.cat([rows, fed], 1)
        if rows.shape[1] == most or all(stop.intersection(row) for row in rows.tolist()):
            return [until_end(row, stop) for row in rows]
