"""Several drafters in one tree: their nodes share the rows of one forward of the target."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from torch import Tensor, nn

from specpress.drafters.growing.growth import Guide, grow
from specpress.drafters.growing.guided import Guided
from specpress.drafters.growing.merging import merged
from specpress.engine.cached_model import CachedModel
from specpress.engine.compression_settings import Compression
from specpress.engine.observation import Observations
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.schedules.base import never
from specpress.speculation.drafter import Drafter, Proposal


class Mixture(Guided):
    """Propose one tree from all `drafters`, with no beginning in it twice.

    Drafters that run a model propose as they do alone. The rest of the nodes is grown from what the others, which run
    none, estimate together: at each node the first of them shares out the probability of what comes next, the second
    what the first leaves over.

    Parameters
    ----------
    drafters : drafters of any kind but mixtures, in the order in which they are asked
    nodes : int, of a tree at most
    gamma : int, of them those that each drafter which runs a model drafts at most
    shape : "best", "fixed" or "path", of what is grown; see `specpress.drafters.growing.growth.SHAPES`

    Raises
    ------
    ValueError
        No drafter, a mixture, two that compress the target's cache or read its hidden states; nodes or gamma under 1;
        an unknown shape.
    """

    def __init__(self, drafters: Sequence[Drafter], nodes: int = 12, *, gamma: int = 4, shape: str = "best"):
        super().__init__(nodes, shape)
        if gamma < 1:
            raise ValueError(f"gamma must be at least 1, got {gamma}")
        if not drafters:
            raise ValueError("a mixture needs a drafter at least: Mixture([SuffixLookup(), TokenRecycling()])")
        if any(isinstance(drafter, Mixture) for drafter in drafters):
            raise ValueError("a mixture takes no mixtures: name their drafters in its own list")
        observing, reading = [d for d in drafters if d.observes], [d for d in drafters if d.reads]
        if max(len(observing), len(reading)) > 1:
            what = "compresses the target's cache" if len(observing) > 1 else "reads the target's hidden states"
            raise ValueError(f"a mixture takes one drafter that {what}, got several")
        self.gamma = gamma
        self._share_out(drafters)
        self.learns = max(drafter.learns for drafter in drafters)
        self.reads = reading[0].reads if reading else ()
        if observing:  # what the loop asks of such a drafter
            self.observes, self.press, self.interval = True, observing[0].press, observing[0].interval

    def _share_out(self, drafters: Sequence[Drafter]) -> None:
        self.drafters = list(drafters)
        self._guided = [drafter for drafter in drafters if isinstance(drafter, Guided)]
        self._drafting = [drafter for drafter in drafters if not isinstance(drafter, Guided)]

    @property
    def sees_cache(self) -> bool:
        """See `Drafter.sees_cache`."""
        return any(drafter.sees_cache for drafter in self.drafters)

    def copied(self) -> "Mixture":
        """See `Drafter.copied`."""
        other = super().copied()
        other._share_out([drafter.copied() for drafter in self.drafters])
        return other

    def start(self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacity: int) -> None:
        """See `Drafter.start`."""
        self._capacity = capacity
        for drafter in self.drafters:
            drafter.start(target, sampling, randomness, capacity)

    def read(self, prompt: Tensor) -> None:
        """See `Drafter.read`."""
        for drafter in self.drafters:
            drafter.read(prompt)

    def learn(self, tokens: Tensor, logits: Tensor) -> None:
        """See `Drafter.learn`."""
        for drafter in self.drafters:
            if drafter.learns:
                drafter.learn(tokens, logits)

    def prefilled(self, target: CachedModel, observations: Observations | None) -> None:
        """See `Drafter.prefilled`."""
        for drafter in self.drafters:
            drafter.prefilled(target, observations)

    def models(self) -> Iterable[nn.Module]:
        """See `Drafter.models`."""
        return tuple(chain.from_iterable(drafter.models() for drafter in self.drafters))

    def compressions(self) -> Iterable[tuple[nn.Module | None, Compression]]:
        """See `Drafter.compressions`."""
        return tuple(chain.from_iterable(drafter.compressions() for drafter in self.drafters))

    def guides(self, context: Tensor) -> Sequence[Guide]:
        """See `Guided.guides`."""
        return [guide for drafter in self._guided for guide in drafter.guides(context)]

    def propose(self, context: Tensor, gamma: int, stop: Callable[[float], bool]) -> Proposal:
        """What the models draft, then what is grown in the nodes that are left; `stop` ends each part of it.

        How many nodes are left depends on how many a model drafted, which its own `stop` may decide. What is grown
        comes after them among the children of any node, where that may depend on them.
        """
        left, proposals = min(gamma, self.nodes), []
        most = min(self.gamma, self._capacity - len(context))  # a path ends where the text does
        for drafter in self._drafting:
            if left:
                proposals.append(drafter.propose(context, min(most, left), _of_reached(stop)))
                left -= len(proposals[-1].tokens)
        if left and self._guided:
            proposals.append(grow(self.guides(context), left, stop, self.shape).proposal())
        return proposals[0] if len(proposals) == 1 else merged(proposals)

    def rollback(self, length: int) -> None:
        """See `Drafter.rollback`."""
        for drafter in self.drafters:
            drafter.rollback(length)


def _of_reached(stop: Callable[[float], bool]) -> Callable[[float], bool]:
    """`stop` for a path whose tokens come with their own probabilities: it is told that they all are kept."""
    if stop is never:
        return never
    reached = 1.0

    def stop_path(probability: float) -> bool:
        nonlocal reached
        reached *= probability
        return stop(reached)

    return stop_path
