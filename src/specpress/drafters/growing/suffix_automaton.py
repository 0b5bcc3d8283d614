"""The suffix automaton of a text that grows: all its substrings, and how often each occurs, in linear time and space.

Blumer et al. (1985), "The smallest automaton recognizing the subwords of a text", built online, token by token. Pure
Python: a token costs some microseconds, where a step of a model takes milliseconds.
"""

from collections.abc import Iterable

BREAK = -1  # between texts in one automaton: no token, so that no suffix of a text goes across it
_COUNTED = 64  # suffixes counted with a token at most: those of ordinary text are a dozen, of a repeated token all


class SuffixAutomaton:
    """States are classes of substrings that occur at the same places; 0 is the empty one.

    `length` : of the longest substring of each state
    `link` : of each state that of its longest proper suffix that occurs elsewhere too; -1 of the empty one
    `following` : of each state {token that occurs after its substrings: state of what they make together}
    `count` : how often the substrings of each state occur. Texts that repeat themselves without end have suffixes
        without end; of a token's, the longest `_COUNTED` are counted, which keeps the time linear.
    `last` : the state of the whole text
    """

    def __init__(self, tokens: Iterable[int] = ()):
        self.length, self.link, self.count = [0], [-1], [0]
        self.following: list[dict[int, int]] = [{}]
        self.last = 0
        for token in tokens:
            self.append(token)

    def append(self, token: int) -> None:
        """The text goes on with `token`."""
        new, state = self._state(self.length[self.last] + 1, {}, 0), self.last
        while state >= 0 and token not in self.following[state]:
            self.following[state][token] = new
            state = self.link[state]
        self.link[new] = 0 if state < 0 else self._exact(state, token)
        self.last = new
        self._count(new)

    def _state(self, length: int, following: dict[int, int], count: int) -> int:
        self.length.append(length)
        self.link.append(0)
        self.following.append(following)
        self.count.append(count)
        return len(self.length) - 1

    def _exact(self, state: int, token: int) -> int:
        """The state of the longest substring of `state` and then `token`, split off where it is one among longer."""
        found = self.following[state][token]
        if self.length[found] == self.length[state] + 1:
            return found
        split = self._state(self.length[state] + 1, self.following[found].copy(), self.count[found])
        self.link[split], self.link[found] = self.link[found], split
        while state >= 0 and self.following[state].get(token) == found:
            self.following[state][token] = split
            state = self.link[state]
        return split

    def _count(self, state: int) -> None:
        for _ in range(_COUNTED):
            if state <= 0:
                return
            self.count[state] += 1
            state = self.link[state]

    def suffix(self) -> tuple[int, int]:
        """The text's longest suffix that occurs earlier too, as (state, its length); (0, 0) if none does."""
        state = max(self.link[self.last], 0)
        return state, self.length[state]

    def follow(self, state: int, matched: int, token: int) -> tuple[int, int]:
        """The longest suffix of (a substring of `state`, its last `matched` tokens, then `token`) that occurs.

        Returns (state, length); (0, 0) for a token that does not occur at all.
        """
        while token not in self.following[state]:
            state = self.link[state]
            if state < 0:
                return 0, 0
            matched = self.length[state]
        return self.following[state][token], matched + 1
