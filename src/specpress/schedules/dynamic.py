"""How many tokens to draft next: gamma, constant or adapted to how the last rounds went.

A schedule looks at finished rounds, or stops drafting after a token has been included; both leave the output law
as it is. Each belongs to one `generate` call.
"""

from specpress.schedules.base import Schedule, at_least_one
from specpress.schedules.iteration import Iteration


class AIMD(Schedule):
    """Additive increase, multiplicative decrease, the original study's "dynamic gamma".

    All drafted tokens accepted: gamma + increase; otherwise gamma // 2. It stays within [floor, cap] from the start (a
    cap of None does not bound it).
    """

    def __init__(self, initial: int = 4, *, floor: int = 4, cap: int | None = None, increase: int = 1):
        at_least_one(initial=initial, floor=floor, cap=cap, increase=increase)
        if cap is not None and cap < floor:
            raise ValueError(f"cap ({cap}) must not be under floor ({floor})")
        self.floor, self.cap, self.increase = floor, cap, increase
        super().__init__(self._bounded(initial))

    def _bounded(self, gamma: int) -> int:
        gamma = max(gamma, self.floor)
        return gamma if self.cap is None else min(gamma, self.cap)

    def update(self, iteration: Iteration) -> None:
        """Grow after full acceptance of all that was asked for, halve after a rejection."""
        if iteration.rejections:
            self.gamma = self._bounded(self.gamma // 2)
        elif iteration.proposed >= self.gamma:
            self.gamma = self._bounded(self.gamma + self.increase)


class PlusMinusOne(Schedule):
    """The original study's second rule: +1 after full acceptance, -1 after a rejection, within [floor, cap]."""

    def __init__(self, initial: int = 4, *, floor: int = 2, cap: int = 16):
        at_least_one(initial=initial, floor=floor, cap=cap)
        if cap < floor:
            raise ValueError(f"cap ({cap}) must not be under floor ({floor})")
        super().__init__(min(max(initial, floor), cap))
        self.floor, self.cap = floor, cap

    def update(self, iteration: Iteration) -> None:
        """One up or one down."""
        step = -1 if iteration.rejections else 1
        self.gamma = min(max(self.gamma + step, self.floor), self.cap)


class Heuristic(Schedule):
    """transformers' "heuristic" schedule of assisted generation: +2 after full acceptance, otherwise -1, at least 1."""

    def __init__(self, initial: int = 5):
        at_least_one(initial=initial)
        super().__init__(initial)

    def update(self, iteration: Iteration) -> None:
        """Two up or one down."""
        self.gamma = max(1, self.gamma - 1) if iteration.rejections else self.gamma + 2
