"""What a schedule is: a gamma, and what it learns from a round."""

from specpress.schedules.iteration import Iteration


def at_least_one(**values: int | None) -> None:
    """Raise ValueError, with its name, for a value under 1; None is no value."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1 token, got {value}")


def never(probability: float) -> bool:
    """A `stop` that never stops drafting; a drafter that is given it need not know the probabilities of its tokens."""
    return False


class Schedule:
    """Base: a gamma that `update` may change and `stop` may cut short.

    `stop` : (the draft's probability of the token just included) -> whether to draft no further
    `of_trees` : whether it sizes trees, of whose nodes `stop` is told the estimated probability of being reached
    `of_paths` : whether it counts on drafted tokens that follow each other
    `timed` : whether gamma depends on what rounds took, not on what they gave alone
    """

    timed = False
    of_trees = of_paths = False
    stop = staticmethod(never)

    def __init__(self, gamma: int):
        self.gamma = gamma

    def update(self, iteration: Iteration) -> None:
        """Learn from a finished round in which tokens were drafted."""

    def learn(self, iteration: Iteration) -> None:
        """`update`, but for a round in which nothing was drafted: it has nothing to teach."""
        if iteration.proposed:
            self.update(iteration)


class Constant(Schedule):
    """The same gamma in every round (Leviathan et al., 2023)."""

    def __init__(self, gamma: int = 4):
        at_least_one(gamma=gamma)
        super().__init__(gamma)
