"""What the decoding loop asks of a drafter."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from specpress.engine.cached_model import CachedModel
from specpress.engine.compression_settings import Compression
from specpress.engine.observation import Observations
from specpress.engine.tree import CONTEXT, Tree
from specpress.laws.engines import selected
from specpress.laws.law import Law
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.models.vocabulary import common_tokens


class Proposal(NamedTuple):
    """Drafted tokens, the laws they were drawn from, and which follows which: the nodes of a tree, or a path."""

    tokens: Tensor  # LongTensor (n,), on the host or where a model drew them
    # n: of each token, given the context, its ancestors and its earlier siblings. Of children drawn without replacement
    # it is the law renormalised without those; of a child that is not drawn (the most likely one) it is a point.
    laws: Sequence[Law]
    # n: the index of each token's parent, -1 for the context; parents[i] < i, siblings in the order in which they are
    # tried. None: each token follows the one before it.
    parents: Sequence[int] | None = None

    @property
    def tree(self) -> Tree | None:
        """The shape; None for a path. ValueError where `parents` is none: see `Tree`."""
        if self.parents is not None and len(self.parents) != len(self.tokens):
            raise ValueError(
                f"a proposal of {len(self.tokens)} tokens needs a parent for each, got {len(self.parents)}"
            )
        tree = None if self.parents is None else Tree(self.parents)
        return None if tree is None or tree.is_path else tree

    def up_to(self, depth: int) -> "Proposal":
        """Without the nodes deeper than `depth`, and each node followed by its descendants, as the cache likes them."""
        tree = self.tree
        if tree is None:
            return self if len(self.tokens) <= depth else Proposal(self.tokens[:depth], self.laws[:depth])
        order = tree.depth_first(depth)
        place = {node: new for new, node in enumerate(order)} | {CONTEXT: CONTEXT}
        parents = [place[tree.parents[node]] for node in order]
        return Proposal(self.tokens[order], selected(self.laws, order), parents)


class Drafter:
    """Base of all drafters. The loop calls `start` and `prefilled` once, then `propose` and `rollback` in turn.

    `observes` : bool, whether `prefilled` needs to know what the target's attention layers were given.
    `branches` : bool, whether proposals may be trees; these need the verification "traversal" or "recursive"
    `reads` : numbers of the target's layers whose outputs it reads, in `prefilled` and after every verification, from
        the `states` of the target it is shown (see `specpress.engine.states`); none are kept for other drafters.
    `nodes` : int, tokens to draft in a round where no schedule says how many
    `learns` : int, of how many last tokens of the prompt `learn` wants the target's logits; 0 never calls it
    """

    observes = False
    branches = False
    reads: Sequence[int] = ()
    nodes = 4
    learns = 0

    def start(self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacity: int) -> None:
        """Get ready for one generation.

        Parameters
        ----------
        target : the model that will verify
        sampling : the transformation that draft and target share
        randomness : the generation's seeded uniforms
        capacity : the most tokens the context can come to

        Raises
        ------
        ValueError
            If the drafter cannot draft for this target (different vocabularies).
        """

    def prefilled(self, target: CachedModel, observations: Observations | None) -> None:
        """The target has read the prompt. Copy from its cache, which is not compressed yet, but do not change it.

        Parameters
        ----------
        target : the verifying model and its cache, as they will be in every later round
        observations : what the attention layers were given; None if neither the drafter nor the target has a press
        """

    def read(self, prompt: Tensor) -> None:
        """The target has read the prompt, LongTensor (n,) on the host. What that takes counts to the first token."""

    def learn(self, tokens: Tensor, logits: Tensor) -> None:
        """The target's logits after each of `tokens`, of the prompt and then in every round, refused ones included.

        Parameters
        ----------
        tokens : LongTensor (n,): of the prompt the last; in a round the context's last and all drafted ones
        logits : Tensor (n, head size), on the target's device
        """

    def propose(self, context: Tensor, gamma: int, stop: Callable[[float], bool]) -> Proposal:
        """Draft up to `gamma` tokens, a path or a tree, after `context`, LongTensor (n,).

        `stop` ends drafting after an included token.
        """
        raise NotImplementedError

    def rollback(self, length: int) -> None:
        """Only the first `length` tokens of context and proposal stand; forget what was computed for later ones.

        Of a tree none stands by its place: `length` is then that of the context, and those tokens of the tree that were
        kept come again with the next context.
        """

    def models(self) -> Iterable[nn.Module]:
        """The models this drafter runs, so that the loop can set them up."""
        return ()

    def compressions(self) -> Iterable[tuple[nn.Module | None, Compression]]:
        """How this drafter compresses the prompt, so that the loop can refuse what cannot run.

        Each comes with the model whose cache it compresses; None is the model that verifies.
        """
        return ()

    @property
    def sees_cache(self) -> bool:
        """Whether `prefilled` looks at the target's cache."""
        return type(self).prefilled is not Drafter.prefilled

    def copied(self) -> "Drafter":
        """Another like it, for another sequence; what `start` makes is its own."""
        return copy.copy(self)

    def rows(self, batch: int) -> "RowByRow":
        """What drafts for a batch of sequences: a copy of this drafter for each, unless a drafter knows better.

        Its `prefilled` is given the target on a ragged cache (`specpress.engine.ragged_model.RaggedModel`).
        """
        return RowByRow(self, batch)


class RowByRow:
    """Draft for several sequences with a copy of one drafter each. Its methods are a drafter's, with lists over rows.

    Raises
    ------
    ValueError
        If the drafter reads the target's cache: that of a batch is another, which the drafter's own `rows` has to read.
    """

    observes = False
    reads = ()

    def __init__(self, drafter: Drafter, batch: int):
        if drafter.sees_cache:
            raise ValueError(
                f"{type(drafter).__name__} reads the target's cache and drafts for one sequence at a time, got a batch "
                f"of {batch}; decode the sequences one by one, or give it a method `rows` that drafts for a batch"
            )
        self.branches, self.learns = drafter.branches, drafter.learns
        self._drafters = [drafter.copied() for _ in range(batch)]

    def start(
        self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacities: Sequence[int]
    ) -> None:
        """See `Drafter.start`; row r holds capacities[r] tokens at most."""
        for drafter, capacity in zip(self._drafters, capacities, strict=True):
            drafter.start(target, sampling, randomness, capacity)

    def prefilled(self, target: CachedModel, observations) -> None:
        """See `Drafter.prefilled`."""

    def read(self, prompts: Sequence[Tensor]) -> None:
        """See `Drafter.read`; LongTensor (n,) a row."""
        for drafter, prompt in zip(self._drafters, prompts, strict=True):
            drafter.read(prompt)

    def learn(self, r: int, tokens: Tensor, logits: Tensor) -> None:
        """See `Drafter.learn`; of row r."""
        self._drafters[r].learn(tokens, logits)

    def propose(
        self, contexts: Sequence[Tensor], gammas: Sequence[int], stop: Callable[[float], bool]
    ) -> list[Proposal]:
        """Draft up to gammas[r] tokens after contexts[r], LongTensor (n,), for each row r."""
        nothing = Proposal(contexts[0][:0], [])
        return [
            drafter.propose(context, gamma, stop) if gamma else nothing
            for drafter, context, gamma in zip(self._drafters, contexts, gammas, strict=True)
        ]

    def rollback(self, lengths: Sequence[int]) -> None:
        """Of each row r the first lengths[r] tokens stand."""
        for drafter, length in zip(self._drafters, lengths, strict=True):
            drafter.rollback(length)

    def models(self) -> Iterable[nn.Module]:
        """See `Drafter.models`."""
        return self._drafters[0].models()


def check_same_vocabulary(target: nn.Module, draft: nn.Module) -> None:
    """Raise ValueError unless both models number the same tokens; see `specpress.models.vocabulary.common_tokens`."""
    common_tokens(target, draft)
