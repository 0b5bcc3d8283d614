"""Schedules that look at the draft's own certainty, or at what rounds cost."""

from specpress.schedules.base import Schedule, at_least_one
from specpress.schedules.iteration import Iteration
from specpress.theory.expected import expected_tokens


class Confidence(Schedule):
    """Draft until the draft model is unsure: stop after including the first token of probability under `threshold`.

    The token that ends the draft stays in it: dropping it because of its value would bias the output. At most `cap`
    tokens.
    """

    def __init__(self, threshold: float = 0.4, *, cap: int = 20):
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must lie in [0, 1], got {threshold}")
        at_least_one(cap=cap)
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

    timed, of_paths = True, True

    def __init__(self, *, cap: int = 16):
        at_least_one(cap=cap)
        super().__init__(min(4, cap))
        self.cap = cap
        self._accepted, self._tested = 1.0, 2.0
        self._draft_seconds = self._drafted = self._verify_seconds = self._rounds = 0.0

    def update(self, iteration: Iteration) -> None:
        """Add a round to the estimates and choose the best gamma under them."""
        self._accepted += iteration.accepted
        self._tested += iteration.accepted + iteration.rejections
        self._draft_seconds += iteration.draft_seconds
        self._drafted += iteration.proposed
        self._verify_seconds += iteration.verify_seconds
        self._rounds += 1
        self.gamma = max(range(1, self.cap + 1), key=self._tokens_per_second)

    def _tokens_per_second(self, gamma: int) -> float:
        draft, verification = self._draft_seconds / self._drafted, self._verify_seconds / self._rounds
        return expected_tokens(self._accepted / self._tested, gamma) / (draft * gamma + verification)
