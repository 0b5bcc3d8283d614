"""Drafting from what followed the same words before, with counts.

The longest suffix of the context that occurred earlier says what may come next, as in SAM decoding (Hu et al., 2024)
and SuffixDecoding (Oliaro et al., 2024); a shorter suffix shares out what it leaves, as in prediction by partial
matching (Cleary and Witten, 1984; the escape is method C of Witten and Bell, 1991).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import ClassVar

from torch import Tensor, nn

from specpress.drafters.growing.growth import Guide, Likely
from specpress.drafters.growing.guided import Guided
from specpress.drafters.growing.suffix_automaton import BREAK, SuffixAutomaton
from specpress.laws.sampling import Randomness, SamplingParams

_ORDERS = 2  # suffixes asked for a node at most, from the longest on
_TELLING = 64  # a suffix that more different tokens followed is not asked: it says little, and listing them takes time
_LISTED = 8  # successors a state may name

_CORPUS_TOKENS = 200_000  # of a study's data set: an automaton takes some 500 bytes and 3 microseconds a token

State = tuple[int, int]  # a state of the automaton, and how many tokens of the context it stands for


class SuffixLookup(Guided):
    """Propose the tree of what followed the context's longest suffixes, in the text so far and in a corpus.

    A suffix automaton finds them in time that does not grow with the text. Under sampling it is exact, as every law is
    all on its token.

    Parameters
    ----------
    nodes : int, of a tree at most
    corpus : SuffixAutomaton or None, of text that was there before the prompt, in the target's tokens
    shape : "best", "fixed" or "path"; see `specpress.drafters.growing.growth.SHAPES`

    Raises
    ------
    ValueError
        nodes under 1; an unknown shape.
    """

    of_text: ClassVar = {"corpus": lambda texts, vocabulary: SuffixAutomaton(islice(_joined(texts), _CORPUS_TOKENS))}

    def __init__(self, nodes: int = 8, *, corpus: SuffixAutomaton | None = None, shape: str = "best"):
        super().__init__(nodes, shape)
        self.corpus = corpus

    def start(self, target: nn.Module, sampling: SamplingParams, randomness: Randomness, capacity: int) -> None:
        """See `Drafter.start`."""
        self._guides = [TextGuide(), *([] if self.corpus is None else [CorpusGuide(self.corpus)])]

    def read(self, prompt: Tensor) -> None:
        """See `Drafter.read`."""
        self.guides(prompt)

    def guides(self, context: Tensor) -> Sequence[Guide]:
        """See `Guided.guides`."""
        for guide in self._guides:
            guide.read(context)
        return self._guides

    def rollback(self, length: int) -> None:
        """See `Drafter.rollback`."""
        for guide in self._guides:
            guide.rollback(length)


def _joined(texts: Iterable[Iterable[int]]) -> Iterator[int]:
    for text in texts:
        yield from text
        yield BREAK


class SuffixGuide(Guide):
    """The state of a context is that of its longest suffix that occurs in the text of an automaton."""

    def __init__(self, automaton: SuffixAutomaton):
        self._automaton, self._read = automaton, 0

    def read(self, context: Tensor) -> None:
        """The context goes on to `context`, LongTensor (n,), whose beginning was read before."""
        for token in context[self._read :].tolist():
            self.append(token)
        self._read = len(context)

    def rollback(self, length: int) -> None:
        """Of the context the first `length` tokens stand; where others were read, as in a cascade, it is read again."""
        if length < self._read:
            self.begin()
            self._read = 0

    def begin(self) -> None:
        """Nothing was read."""
        raise NotImplementedError

    def append(self, token: int) -> None:
        """The context goes on with `token`."""
        raise NotImplementedError

    def after(self, state: State, token: int) -> State:
        """See `Guide.after`."""
        return self._automaton.follow(*state, token)

    def likely(self, state: State) -> Likely:
        """Counts over those of a suffix and how many kinds there are; a shorter one shares out what that leaves."""
        automaton, node = self._automaton, state[0]
        found: dict[int, float] = {}
        left, orders = 1.0, _ORDERS
        while node > 0 and orders:
            following = automaton.following[node]
            if 0 < len(following) <= _TELLING:
                counts = {token: automaton.count[child] for token, child in following.items()}
                seen = sum(counts.values())
                share = left * seen / (seen + len(counts))
                for token, count in counts.items():
                    found[token] = found.get(token, 0.0) + share * count / seen
                left, orders = left - share, orders - 1
            node = automaton.link[node]
        found.pop(BREAK, None)
        return sorted(found.items(), key=lambda item: -item[1])[:_LISTED]


class TextGuide(SuffixGuide):
    """Of a text that grows: the context itself, whose longest suffix that occurs earlier is its state."""

    def __init__(self):
        super().__init__(SuffixAutomaton())

    def begin(self) -> None:
        """See `SuffixGuide.begin`."""
        self._automaton = SuffixAutomaton()

    def append(self, token: int) -> None:
        """See `SuffixGuide.append`."""
        self._automaton.append(token)

    def root(self) -> State:
        """See `Guide.root`."""
        return self._automaton.suffix()


class CorpusGuide(SuffixGuide):
    """Of a text that stays as it is; what a state names is remembered."""

    def __init__(self, automaton: SuffixAutomaton):
        super().__init__(automaton)
        self._state: State = (0, 0)
        self._named: dict[State, Likely] = {}

    def begin(self) -> None:
        """See `SuffixGuide.begin`."""
        self._state = (0, 0)

    def append(self, token: int) -> None:
        """See `SuffixGuide.append`."""
        self._state = self.after(self._state, token)

    def root(self) -> State:
        """See `Guide.root`."""
        return self._state

    def likely(self, state: State) -> Likely:
        """See `Guide.likely`."""
        if state not in self._named:
            self._named[state] = super().likely(state)
        return self._named[state]
