"""What the decoding loop asks of a drafter."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor, nn

from specpress.cached_model import CachedModel
from specpress.presses.observation import Observations
from specpress.sampling import Randomness, SamplingParams


class Proposal(NamedTuple):
    """Drafted tokens and the laws they were drawn from."""

    tokens: Tensor  # LongTensor (n,)
    laws: Tensor  # float32 (n, vocabulary): row i is the law of token i given the context and the tokens before it


class Drafter:
    """Base of all drafters. The loop calls `start` and `prefilled` once, then `propose` and `rollback` in turn.

    `observes` : bool, whether `prefilled` needs to know what the target's attention layers were given.
    """

    observes = False

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

    def propose(self, context: Tensor, gamma: int, stop: Callable[[float], bool]) -> Proposal:
        """Draft up to `gamma` tokens after `context`, LongTensor (n,); `stop` ends drafting after an included token."""
        raise NotImplementedError

    def rollback(self, length: int) -> None:
        """Only the first `length` tokens of context and proposal stand; forget what was computed for later ones."""

    def models(self) -> Iterable[nn.Module]:
        """The models this drafter runs, so that the loop can set them up."""
        return ()


def check_same_vocabulary(target: nn.Module, draft: nn.Module) -> None:
    """Raise ValueError unless both models number the same vocabulary."""
    ours, theirs = target.config.vocab_size, draft.config.vocab_size
    if ours != theirs:
        raise ValueError(
            f"the draft model has a vocabulary of {theirs} tokens, the target one of {ours}: speculative decoding "
            "needs one tokenizer and vocabulary for both; take a draft of the target's family or train one from it"
        )
