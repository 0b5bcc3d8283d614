"""Drafting from what the target has already computed: its hidden states, read by a head of few layers.

EAGLE (Li et al., 2024): a step of such a head costs little more than its layers and output head, yet it knows what the
whole target made of the text so far. What verification computed for the tokens that stand is read before the next
draft; along the draft itself the head's own output stands in for the states that the target has not computed.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specpress.drafters.branching import Branching
from specpress.engine.cached_model import CachedModel
from specpress.engine.forward import forward_of
from specpress.engine.observation import Observations
from specpress.engine.states import HiddenStates
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.models.feature_head import feature_layers, normed
from specpress.speculation.drafter import Drafter, Proposal, check_same_vocabulary


class FeatureHead(Drafter):
    """Draft with a feature head, token by token, on a cache of its own: a path, or a tree along one.

    Parameters
    ----------
    head : a model that `specpress.load_model` reads from the directory of a feature head trained for the target
    children, likely : how the draft branches; see `DraftModel`

    Raises
    ------
    ValueError
        A model that is no feature head; children under 1; in `start`, a target that the head was not made for, or whose
        forward is not our own and shows no hidden states.
    """

    def __init__(self, head: nn.Module, *, children: int = 1, likely: bool = False):
        if not feature_layers(head):
            raise ValueError(
                "the model is no feature head (config.json names no feature_layers): draft with DraftModel, or train a "
                "head with `kind: head` in a study's drafts"
            )
        self.head, self.reads = head, feature_layers(head)
        self._branching, self.branches = Branching(children, likely), children > 1

    def start(self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacity: int) -> None:
        """See `Drafter.start`."""
        check_same_vocabulary(target, self.head)
        _check_target(target, self.head)
        self._sampling, self._randomness, self._capacity = sampling, randomness, capacity

    def prefilled(self, target: CachedModel, observations: Observations | None) -> None:
        """See `Drafter.prefilled`."""
        self._reader = HeadReader(self.head, target, self._capacity)

    def models(self) -> tuple[nn.Module]:
        """See `Drafter.models`."""
        return (self.head,)

    def propose(self, context: Tensor, gamma: int, stop: Callable[[float], bool]) -> Proposal:
        """Sample up to `gamma` tokens from the head's law; then its cache holds nothing but the target's states."""
        room = self._capacity - len(context)
        proposal = self._branching.draft(self._reader, context, gamma, room, stop, self._sampling, self._randomness)
        self._reader.forget_draft()
        return proposal

    def rollback(self, length: int) -> None:
        """See `Drafter.rollback`; the states of the last token that stands are read again, beside what comes after it.

        In a loop of its own nothing goes: its cache lacks what a round commits. In a cascade it has read tokens that
        the intermediate model kept and the target refused.
        """
        self._reader.rollback_to(length)


class HeadReader:
    """A head on its cache as a model that is fed tokens: each goes in beside the hidden states of the one before it.

    head_tokens : which tokens the head's rows are; see `CachedModel`
    """

    def __init__(self, head: nn.Module, target: CachedModel, capacity: int):
        self._head, self._target = head, target
        self._cached = CachedModel(head, capacity)
        self._cached.states = HiddenStates((head.config.num_hidden_layers,))
        self._embeddings = head.get_input_embeddings().weight
        self.head_tokens = self._cached.head_tokens

    @property
    def length(self) -> int:
        """Tokens read: the first has nothing before it, and is in no slot."""
        return self._cached.length + 1

    @torch.inference_mode()
    def feed(self, tokens: Tensor) -> Tensor:
        """Read on, LongTensor (1, n): what the target has verified by now, then one drafted token after another.

        Returns the logits after the last, (1, 1, head size).
        """
        lacking = self._target.length - self._cached.length
        states = self._new_states(lacking) if lacking > 0 else normed(self._cached.states.take()[:, -1:])
        tokens = tokens.to(self._cached.device)
        inputs = self._head.feature_input(states, F.embedding(tokens, self._embeddings))
        return self._cached.feed(tokens, inputs=inputs)

    def forget_draft(self) -> None:
        """Take back what was drafted, whose states stand in for those of the target."""
        self._cached.rollback_to(self._target.length)

    def rollback_to(self, length: int) -> None:
        """Of the tokens read only the first `length` stand."""
        self._cached.rollback_to(length - 1)

    def _new_states(self, count: int) -> Tensor:
        """What the target put out for its last `count` tokens, condensed: (1, count, hidden size)."""
        self._target.states.cut(self._target.length)
        states = self._target.states.take()[:, -count:]
        return self._head.feature_input.condensed(states.to(self._cached.device, self._head.dtype))


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
