"""Drafting from what the target itself found likely before (Luo et al., 2024, "Turning Trash into Treasure")."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from specpress.drafters.growing.growth import Guide, Likely
from specpress.drafters.growing.guided import Guided
from specpress.drafters.growing.successors import Successors
from specpress.laws.law import head_tokens
from specpress.laws.sampling import Randomness, SamplingParams

_COUNTED = 16  # successors counted of a token of text: as many as any k that is worth its time


class TokenRecycling(Guided):
    """Propose a tree of each token's likeliest successors, as the target's logits last showed them.

    Logits that verification has paid for are kept, those of refused tokens too: the k most likely successors of each
    token, whatever its context was. Under sampling it is exact, as every law is all on its token.

    Parameters
    ----------
    k : int, successors kept of a token
    nodes : int, of a tree at most
    warm : Successors or None
        What is known before the prompt, of the target's vocabulary and `k` successors or more, such as
        `Successors.counted(texts, vocabulary, k)`. None starts with nothing but the prompt.
    shape : "best", "fixed" or "path"; see `specpress.drafters.growing.growth.SHAPES`

    Raises
    ------
    ValueError
        k or nodes under 1; an unknown shape.
    """

    learns = 512
    of_text: ClassVar = {"warm": lambda texts, vocabulary: Successors.counted(texts, vocabulary, _COUNTED)}

    def __init__(self, k: int = 8, nodes: int = 8, *, warm: Successors | None = None, shape: str = "best"):
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        super().__init__(nodes, shape)
        self.k, self.warm = k, warm

    def start(self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacity: int) -> None:
        """See `Drafter.start`."""
        vocabulary, head = target.config.vocab_size, head_tokens(target)
        self._head = None if head is None else head.host
        self.successors = Successors(vocabulary, self.k) if self.warm is None else self.warm.first(self.k)
        if len(self.successors) != vocabulary:
            raise ValueError(
                f"warm knows successors of {len(self.successors)} tokens, the target has {vocabulary}: "
                "make it from this target's text"
            )

    def learn(self, tokens: Tensor, logits: Tensor) -> None:
        """See `Drafter.learn`."""
        self.successors.learn(tokens.cpu(), logits, self._head)

    def guides(self, context: Tensor) -> Sequence[Guide]:
        """See `Guided.guides`."""
        return (SuccessorGuide(self.successors, int(context[-1])),)


class SuccessorGuide(Guide):
    """The state of a context is its last token."""

    def __init__(self, successors: Successors, last: int):
        self.likely, self._last = successors.after, last

    def root(self) -> int:
        """See `Guide.root`."""
        return self._last

    def after(self, state: int, token: int) -> int:
        """See `Guide.after`."""
        return token

    def likely(self, state: Any) -> Likely:  # replaced above: one call less a node
        """See `Guide.likely`."""
        raise NotImplementedError
