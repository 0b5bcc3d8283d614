"""The original study's protocol: no use of a KV cache, every forward reads the whole prefix again.

A forward is the one that cached decoding runs, so that the two protocols differ in nothing but what they compute anew.
For the reproduction of its figures only; everything else uses `specpress.decoding.generate`. Its costs are kept, its
bugs are not: the output law is the target's own, as everywhere here (its two loops are `regrSampling` and
`specSampling`).
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from specpress.decoding.generation import Decoding, Generation, Part, Stopwatch
from specpress.decoding.inputs import check_context, check_prompt, check_tokens, token_set, until_end
from specpress.decoding.models import check_lengths, check_model
from specpress.engine.cached_model import CachedModel
from specpress.laws.engines import joined, laws_of
from specpress.laws.law import Law
from specpress.laws.sampling import Randomness, SamplingParams, probabilities
from specpress.schedules.iteration import Iteration
from specpress.speculation.drafter import Proposal, check_same_vocabulary
from specpress.speculation.rounds import judge
from specpress.theory.parts import DRAFTING, PREFILL, VERIFICATION


def generate_uncached(
    model: nn.Module,
    input_ids: Tensor,
    *,
    max_new_tokens: int,
    sampling: SamplingParams = SamplingParams(),  # noqa: B008 (frozen)
    drafter_model: nn.Module | None = None,
    gamma: int = 4,
    normalise_prefix: bool = False,
    eos_token_id=None,
) -> Generation:
    """Generate up to `max_new_tokens` tokens, recomputing the whole prefix at every step of every model.

    Parameters
    ----------
    model : transformers causal LM
    input_ids : LongTensor (1, prompt_len)
    max_new_tokens : int, never exceeded
    sampling : SamplingParams
    drafter_model : causal LM with the target's vocabulary; None decodes autoregressively
    gamma : int, tokens drafted a round
    normalise_prefix : bool
        Make a law of the logits at every position of the prefix, one after the other, as the original did, though only
        the last positions' laws are used: where the logits are, with a sort of the whole vocabulary if top_p asks.
    eos_token_id : end-of-text token(s) to stop after; None never stops

    Returns
    -------
    Generation; its trace counts no cache slots.

    Raises
    ------
    ValueError
        For input that cannot be decoded: see `specpress.generate`.
    """
    decoding = prepare_uncached(
        model,
        input_ids,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        drafter_model=drafter_model,
        gamma=gamma,
        normalise_prefix=normalise_prefix,
        eos_token_id=eos_token_id,
    )
    return decoding.run().on(input_ids.device)


def prepare_uncached(
    model: nn.Module,
    input_ids: Tensor,
    *,
    max_new_tokens: int,
    sampling: SamplingParams = SamplingParams(),  # noqa: B008 (frozen)
    drafter_model: nn.Module | None = None,
    gamma: int = 4,
    normalise_prefix: bool = False,
    eos_token_id=None,
) -> Decoding:
    """The generation that `generate_uncached` runs, with its parameters and errors, to be advanced part by part."""
    models = [m for m in (model, drafter_model) if m is not None]
    check_model(model)
    check_prompt(model, input_ids, max_new_tokens)
    if drafter_model is not None:
        check_model(drafter_model, "the draft model")
        check_same_vocabulary(model, drafter_model)
        check_tokens(drafter_model, input_ids, "the draft model's")
        check_context(drafter_model, input_ids.shape[1], max_new_tokens, "the draft model's")
    check_lengths(model, models[1:], [input_ids.shape[1]], max_new_tokens, drafter_model is not None, models)
    if input_ids.shape[0] > 1:
        raise ValueError(f"the uncached protocol takes one sequence at a time, got a batch of {input_ids.shape[0]}")
    if gamma < 1:
        raise ValueError(f"gamma must be at least 1 token, got {gamma}")
    end = input_ids.shape[1] + max_new_tokens
    laws = [_laws_of(m, end, sampling, normalise_prefix) for m in models]
    return _Uncached(input_ids[0].cpu(), end, models, laws, gamma, Randomness(sampling.seed), token_set(eos_token_id))


class _Uncached(Decoding):
    """State of one generation: `text`, and functions that give the target's laws and, if one drafts, the draft's."""

    def __init__(self, prompt, end, models, laws, gamma, randomness, stop_tokens):
        super().__init__(models[0].device, models)
        self.text, self._prompt_length, self._end = prompt, len(prompt), end
        self._target_laws, *self._draft_laws = laws
        self._gamma, self._randomness, self._stop = gamma, randomness, stop_tokens

    def parts(self, on_tokens: Callable[[Tensor], None] = lambda tokens: None) -> Iterator[Part]:
        """See `Decoding.parts`; a round drafts, then verifies in a forward over all of the text."""
        watch = Stopwatch(self.device)
        self._commit(self._target_laws(self.text, 1).take(self._randomness), on_tokens)
        read = watch.part(PREFILL, self._prompt_length)
        self.trace.prefill_seconds = read.seconds
        yield read
        while len(self.text) < self._end and int(self.text[-1]) not in self._stop:
            yield from self._round(on_tokens)

    def _round(self, on_tokens: Callable[[Tensor], None]) -> Iterator[Part]:
        watch, text = Stopwatch(self.device), self.text
        asked = min(self._gamma, self._end - len(text) - 1) if self._draft_laws else 0
        proposal = Proposal(text[:0], [])
        if asked:
            proposal = _draft(self._draft_laws[0], text, asked, self._randomness)
            yield watch.part(DRAFTING, asked)
            watch.start()
        laws = self._target_laws(torch.cat([text, proposal.tokens]), asked + 1)
        judged = judge(laws, proposal, self._randomness, "token")
        new = until_end(judged.tokens, self._stop)
        self._commit(new, on_tokens)
        last = watch.part(VERIFICATION, asked + 1)
        seconds, drafting = watch.total, watch.of[DRAFTING]
        self.trace.iterations.append(Iteration(asked, asked, judged.accepted, len(new), seconds, drafting, slots=0))
        yield last

    def _commit(self, tokens: Tensor, on_tokens: Callable[[Tensor], None]) -> None:
        self.text = torch.cat([self.text, tokens])
        on_tokens(tokens)

    @property
    def new(self) -> int:
        """See `Decoding.new`."""
        return len(self.text) - self._prompt_length

    def tokens(self) -> Tensor:
        """See `Decoding.tokens`."""
        return self.text[None, self._prompt_length :]


def _draft(find_laws: Callable, text: Tensor, gamma: int, randomness: Randomness) -> Proposal:
    """`gamma` tokens and the laws they were drawn from, each after a forward over everything before it."""
    tokens, laws = text[:0], []
    for _ in range(gamma):
        laws.append(find_laws(torch.cat([text, tokens]), 1))
        tokens = torch.cat([tokens, laws[-1].take(randomness)])
    return Proposal(tokens, joined(laws))


def _laws_of(model: nn.Module, longest: int, sampling: SamplingParams, normalise_prefix: bool) -> Callable:
    """A function (text (n,), k) -> the laws after each of its last k tokens; n up to `longest`."""
    forward = CachedModel(model, longest)

    def laws(text: Tensor, k: int) -> Sequence[Law]:
        forward.rollback_to(0)
        logits = forward.feed(text[None], keep=len(text) if normalise_prefix else k)[0]
        for row in logits[:-k]:
            probabilities(row, sampling)  # for its cost
        return laws_of(logits[-k:], sampling, forward.head_tokens)

    return laws
