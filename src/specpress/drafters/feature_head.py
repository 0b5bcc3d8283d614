"""Drafting from what the target has already computed: its hidden states, read by a head of few layers.

EAGLE (Li et al., 2024): a step of such a head costs little more than its layers and output head, yet it knows what the
whole target made of the text so far. What verification computed for the tokens that stand is read before the next
draft; along the draft itself the head's own output stands in for the states that the target has not computed.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specpress.engine.cached_model import CachedModel
from specpress.engine.forward import forward_of
from specpress.engine.observation import Observations
from specpress.engine.states import HiddenStates
from specpress.laws.engines import joined, laws_of
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.models.feature_head import feature_layers, normed
from specpress.schedules.base import never
from specpress.speculation.drafter import Drafter, Proposal, check_same_vocabulary


class FeatureHead(Drafter):
    """Draft with a feature head, token by token, on a cache of its own.

    Parameters
    ----------
    head : a model that `specpress.load_model` reads from the directory of a feature head trained for the target

    Raises
    ------
    ValueError
        A model that is no feature head; in `start`, a target that the head was not made for, or whose forward is not
        our own and shows no hidden states.
    """

    def __init__(self, head: nn.Module):
        if not feature_layers(head):
            raise ValueError(
                "the model is no feature head (config.json names no feature_layers): draft with DraftModel, or train a "
                "head with `kind: head` in a study's drafts"
            )
        self.head, self.reads = head, feature_layers(head)

    def start(self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacity: int) -> None:
        """See `Drafter.start`."""
        check_same_vocabulary(target, self.head)
        _check_target(target, self.head)
        self._sampling, self._randomness = sampling, randomness
        self._cached = CachedModel(self.head, capacity)
        self._cached.states = HiddenStates((self.head.config.num_hidden_layers,))
        self._embeddings = self.head.get_input_embeddings().weight

    def prefilled(self, target: CachedModel, observations: Observations | None) -> None:
        """See `Drafter.prefilled`."""
        self._target = target

    def models(self) -> tuple[nn.Module]:
        """See `Drafter.models`."""
        return (self.head,)

    @torch.inference_mode()
    def propose(self, context: Tensor, gamma: int, stop: Callable[[float], bool]) -> Proposal:
        """Sample up to `gamma` tokens from the head's law; then its cache holds nothing but the target's states."""
        known, start = self._target.length, self._cached.length
        states, fed = self._new_states(known - start), context[start + 1 : known + 1].to(self._cached.device)
        tokens, laws = [], []
        while True:
            inputs = self.head.feature_input(states, F.embedding(fed, self._embeddings)[None])
            law = laws_of(self._cached.feed(fed[None], inputs=inputs)[0], self._sampling, self._cached.head_tokens)
            fed, (probability,) = law.draw(self._randomness)
            tokens.append(fed)
            laws.append(law)
            if len(tokens) == gamma or (stop is not never and stop(float(probability))):
                break
            states, fed = normed(self._cached.states.take()[:, -1:]), fed.to(self._cached.device)
        self._cached.rollback_to(known)
        return Proposal(torch.cat(tokens), joined(laws))

    def _new_states(self, count: int) -> Tensor:
        """What the target put out for its last `count` tokens, condensed: (1, count, hidden size)."""
        self._target.states.cut(self._target.length)
        return self.head.feature_input.condensed(self._target.states.take()[:, -count:].to(self.head.dtype))


def _check_target(target: nn.Module, head: nn.Module) -> None:
    ours, theirs = head.config, target.config
    if ours.hidden_size != theirs.hidden_size or max(feature_layers(head)) > theirs.num_hidden_layers:
        raise ValueError(
            f"the head reads layers {', '.join(map(str, feature_layers(head)))} of a target with hidden states of "
            f"{ours.hidden_size}; this one has {theirs.num_hidden_layers} layers and {theirs.hidden_size}: take the "
            "target it was trained for"
        )
    if forward_of(target) is None:
        raise ValueError(
            "only this library's own forward of the known families shows the hidden states that a feature head reads; "
            "this target runs by its modules (another family, hooks, adapters or training mode): draft with DraftModel"
        )
