"""How many tokens to draft next: gamma, constant or adapted to how the last rounds went.

A schedule looks at finished rounds, or stops drafting after a token has been included; both leave the output law
as it is. Each belongs to one `generate` call.
"""

from specpress.trace import Iteration


def _at_least_one(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1 token, got {value}")


class Schedule:
    """Base: a gamma that `update` may change and `stop` may cut short."""

    def __init__(self, gamma: int):
        self.gamma = gamma

    def update(self, iteration: Iteration) -> None:
        """Learn from a finished round."""

    def stop(self, probability: float) -> bool:
        """Whether to draft no further, given the draft's probability of the token just included."""
        return False


class Constant(Schedule):
    """The same gamma in every round (Leviathan et al., 2023)."""

    def __init__(self, gamma: int = 4):
        _at_least_one(gamma=gamma)
        super().__init__(gamma)


class AIMD(Schedule):
    """Additive increase, multiplicative decrease, the original study's "dynamic gamma".

    All drafted tokens accepted: gamma + increase; otherwise max(floor, gamma // 2). `cap` bounds it (None: unbounded).
    """

    def __init__(self, initial: int = 4, *, floor: int = 4, cap: int | None = None, increase: int = 1):
        _at_least_one(initial=initial, floor=floor, cap=cap, increase=increase)
        if cap is not None and cap < floor:
            raise ValueError(f"cap ({cap}) must not be under floor ({floor})")
        super().__init__(initial)
        self.floor, self.cap, self.increase = floor, cap, increase

    def update(self, iteration: Iteration) -> None:
        """Grow after full acceptance of all that was asked for, halve after a rejection."""
        if iteration.accepted < iteration.proposed:
            self.gamma = max(self.floor, self.gamma // 2)
        elif iteration.proposed >= self.gamma:
            self.gamma += self.increase
            if self.cap is not None:
                self.gamma = min(self.gamma, self.cap)
