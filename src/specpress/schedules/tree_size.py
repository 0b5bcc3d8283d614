"""How large a tree of drafted tokens should be: until the next node costs more than it yields."""

from collections import deque
from statistics import fmean

from specpress.schedules.base import Schedule, at_least_one
from specpress.schedules.iteration import Iteration

_RECENT = 64  # rounds whose seconds count
_DISTURBED = 1.5  # times what a round was expected to take: what takes longer was held up by something else
_PRIOR_ROUNDS = 0.5  # that the prior slope is worth, of sizes as those tried out
_TRIED = 4  # rounds at first, and then every eighth, whose size is tried out: the cap and a quarter of it in turn


class OptimalTree(Schedule):
    """The tree that yields most tokens per second, from costs and estimates as this generation shows them.

    The drafter adds its nodes in the order of their estimated probability p of being reached and tells `stop` of each.
    A tree of n nodes yields 1 + r sum p tokens, r being the tokens kept so far over those that the estimates promised,
    from a prior of one each. It takes T(n) = a + b n seconds, the least-squares line through this generation's rounds.
    The next node yields at most r p and costs b: nodes are added while r p / (1 + r sum p) is at least b / T(n), as
    Sequoia (Chen et al., 2024, section 3.3) chooses a size for a machine. The line needs rounds of different sizes: the
    first four, and then every eighth, have the cap's or a quarter of it in turn.

    Timings decide the size, so the sampled text can differ between runs of one seed; its law cannot.

    Parameters
    ----------
    cap : int, nodes at most
    row_cost : float, b over a before a round was timed; it weighs half as much as a round
    """

    timed, of_trees = True, True

    def __init__(self, *, cap: int = 16, row_cost: float = 0.02):
        at_least_one(cap=cap)
        if row_cost < 0:
            raise ValueError(f"row_cost must not be negative, got {row_cost}")
        super().__init__(cap)
        self.cap, self._row_cost, self._rounds = cap, row_cost, deque(maxlen=_RECENT)
        self._kept = self._promised = 1.0
        self._asked, self._hoped = 0, 0.0  # nodes of the tree that is growing, and the sum of their p
        self._finished, self._trying = 0, True

    def stop(self, probability: float) -> bool:
        """Whether a node that is reached with `probability` was the last worth its row."""
        self._asked += 1
        self._hoped += probability
        if self._trying:
            return False
        right, (first, each) = self._kept / self._promised, self._line
        return right * probability / (1 + right * self._hoped) < each / (first + each * self._asked)

    def learn(self, iteration: Iteration) -> None:
        """Note what the round took, and what was kept of what was promised."""
        seconds = iteration.seconds - iteration.compress_seconds
        if self._finished >= _TRIED:
            first, each = self._line
            seconds = min(seconds, _DISTURBED * (first + each * iteration.proposed))
        self._rounds.append((iteration.proposed, seconds))
        self._kept += iteration.accepted
        self._promised += self._hoped
        self._asked, self._hoped = 0, 0.0
        self._finished += 1
        self._trying = self._finished < _TRIED or self._finished % 8 == 0
        tried = self._finished if self._finished < _TRIED else self._finished // 8
        self.gamma = max(1, self.cap // 4) if self._trying and tried % 2 else self.cap
        self._line = self._fitted()

    def _fitted(self) -> tuple[float, float]:
        """Seconds of a round without a node, and of each node."""
        nodes_mean = fmean(nodes for nodes, _ in self._rounds)
        seconds_mean = fmean(seconds for _, seconds in self._rounds)
        spread = _PRIOR_ROUNDS * (3 / 8 * self.cap) ** 2
        prior = self._row_cost * seconds_mean / (1 + self._row_cost * nodes_mean)
        together = spread * prior + sum((nodes - nodes_mean) * (s - seconds_mean) for nodes, s in self._rounds)
        each = max(0.0, together / (spread + sum((nodes - nodes_mean) ** 2 for nodes, _ in self._rounds)))
        return max(0.0, seconds_mean - each * nodes_mean), each
