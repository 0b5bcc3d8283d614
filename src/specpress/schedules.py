"""How many tokens to draft next: gamma, constant or adapted to how the last rounds went.

A schedule looks at finished rounds, or stops drafting after a token has been included; both leave the output law
as it is. Each belongs to one `generate` call.
"""

from specpress.theory import expected_tokens
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
        """Learn from a finished round in which tokens were drafted: one without has nothing to teach."""

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

    All drafted tokens accepted: gamma + increase; otherwise gamma // 2. It stays within [floor, cap] from the start (a
    cap of None does not bound it).
    """

    def __init__(self, initial: int = 4, *, floor: int = 4, cap: int | None = None, increase: int = 1):
        _at_least_one(initial=initial, floor=floor, cap=cap, increase=increase)
        if cap is not None and cap < floor:
            raise ValueError(f"cap ({cap}) must not be under floor ({floor})")
        self.floor, self.cap, self.increase = floor, cap, increase
        super().__init__(self._bounded(initial))

    def _bounded(self, gamma: int) -> int:
        gamma = max(gamma, self.floor)
        return gamma if self.cap is None else min(gamma, self.cap)

    def update(self, iteration: Iteration) -> None:
        """Grow after full acceptance of all that was asked for, halve after a rejection."""
        if iteration.accepted < iteration.proposed:
            self.gamma = self._bounded(self.gamma // 2)
        elif iteration.proposed >= self.gamma:
            self.gamma = self._bounded(self.gamma + self.increase)


class PlusMinusOne(Schedule):
    """The original study's second rule: +1 after full acceptance, -1 after a rejection, within [floor, cap]."""

    def __init__(self, initial: int = 4, *, floor: int = 2, cap: int = 16):
        _at_least_one(initial=initial, floor=floor, cap=cap)
        if cap < floor:
            raise ValueError(f"cap ({cap}) must not be under floor ({floor})")
        super().__init__(min(max(initial, floor), cap))
        self.floor, self.cap = floor, cap

    def update(self, iteration: Iteration) -> None:
        """One up or one down."""
        step = 1 if iteration.accepted == iteration.proposed else -1
        self.gamma = min(max(self.gamma + step, self.floor), self.cap)


class Heuristic(Schedule):
    """transformers' "heuristic" schedule of assisted generation: +2 after full acceptance, otherwise -1, at least 1."""

    def __init__(self, initial: int = 5):
        _at_least_one(initial=initial)
        super().__init__(initial)

    def update(self, iteration: Iteration) -> None:
        """Two up or one down."""
        self.gamma = self.gamma + 2 if iteration.accepted == iteration.proposed else max(1, self.gamma - 1)


class Confidence(Schedule):
    """Draft until the draft model is unsure: stop after including the first token of probability under `threshold`.

    The token that ends the draft stays in it: dropping it because of its value would bias the output. At most `cap`
    tokens.
    """

    def __init__(self, threshold: float = 0.4, *, cap: int = 20):
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must lie in [0, 1], got {threshold}")
        _at_least_one(cap=cap)
        super().__init__(cap)
        self.threshold = threshold

    def stop(self, probability: float) -> bool:
        """Whether the token just included was an unsure one."""
        return probability < self.threshold


class Optimal(Schedule):
    """The gamma that maximises expected tokens per second, from acceptance and costs estimated as it goes.

    Expected tokens as in Leviathan et al. (2023), section 3, over a round's expected seconds d gamma + v: d, a drafted
    token, and v, a verification, are running means of what the trace measured (v grows little with gamma at batch 1).
    The acceptance starts from a Beta(1, 1) prior. Timings decide gamma, so the number of drafted tokens, and with it
    the sampled text, can differ between runs of one seed; the law of the text cannot.
    """

    def __init__(self, *, cap: int = 16):
        _at_least_one(cap=cap)
        super().__init__(min(4, cap))
        self.cap = cap
        self._accepted, self._tested = 1.0, 2.0
        self._draft_seconds = self._drafted = self._verify_seconds = self._rounds = 0.0

    def update(self, iteration: Iteration) -> None:
        """Add a round to the estimates and choose the best gamma under them."""
        self._accepted += iteration.accepted
        self._tested += iteration.accepted + (iteration.accepted < iteration.proposed)
        self._draft_seconds += iteration.draft_seconds
        self._drafted += iteration.proposed
        self._verify_seconds += iteration.verify_seconds
        self._rounds += 1
        self.gamma = max(range(1, self.cap + 1), key=self._tokens_per_second)

    def _tokens_per_second(self, gamma: int) -> float:
        draft, verification = self._draft_seconds / self._drafted, self._verify_seconds / self._rounds
        return expected_tokens(self._accepted / self._tested, gamma) / (draft * gamma + verification)
