"""Every outcome of verifications with its probability, and the law of the text that comes of them: proof, not chance.

The rules that decode are run as they are, once for each way in which their decisions can fall. With laws in fractions
all of it is exact.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from numbers import Real
from typing import NamedTuple

from specpress.engine.tree import CONTEXT, Tree
from specpress.laws.law import Law
from specpress.speculation.verification import Rule

Text = tuple[int, ...]


class Draft(NamedTuple):
    """A proposal that a drafter makes with a probability."""

    probability: Real
    tokens: Sequence[int]
    laws: Sequence[Law]
    tree: Tree


class Output(NamedTuple):
    """What speculation does to a text: `law` of each continuation of some length, and the mean drafted tokens kept."""

    law: Mapping[Text, Real]
    accepted: Real


def outcomes(
    rule: Rule, target: Sequence[Law], draft: Sequence[Law], drafted: Sequence[int], tree: Tree
) -> Iterator[tuple[int, Law, Real]]:
    """(last node kept, unnormalised law of the token after it, probability) for each way the decisions can fall."""
    scripts: list[tuple[bool, ...]] = [()]
    while scripts:
        script, answers, chance = scripts.pop(), [], 1

        def coin(node: int, kept: Real, script=script, answers=answers) -> bool:
            nonlocal chance
            place = len(answers)
            if place >= len(script) and 0 < kept < 1:
                scripts.append((*answers, False))
            answers.append(script[place] if place < len(script) else kept > 0)
            chance = chance * (kept if answers[-1] else 1 - kept)
            return answers[-1]

        node, law = rule(target, draft, drafted, tree, coin)
        yield node, law, chance


def output(rule: Rule, target: Callable[[Text], Law], drafts: Iterable[Draft], length: int) -> Output:
    """The law of the first `length` tokens when one round is followed by tokens of the target.

    Parameters
    ----------
    rule : of `specpress.speculation.verification`, or one like it
    target : the target's law after each text, the prompt left out
    drafts : all proposals; their probabilities sum to one
    length : more than the depth of every tree, so that all that a round writes is looked at
    """
    written: dict[Text, Real] = defaultdict(int)
    accepted = 0
    for probability, tokens, laws, tree in drafts:
        paths = [tuple(tokens[i] for i in tree.path_to(node)) for node in range(CONTEXT, len(tree))]
        ps = _Lazy([lambda path=path: target(path) for path in paths])
        for node, law, chance in outcomes(rule, ps, laws, tokens, tree):
            kept, weight = paths[node + 1], probability * chance
            accepted += weight * len(kept)
            total = law.mass.sum()
            for token, mass in zip(law.tokens.tolist(), law.mass.tolist(), strict=True):
                if mass:
                    written[(*kept, token)] += weight * mass / total
    return Output(_completed(written, target, length), accepted)


def joint(target: Callable[[Text], Law], length: int) -> Mapping[Text, Real]:
    """The target's own law of the first `length` tokens; texts without probability are left out."""
    return _completed({(): 1}, target, length)


def total_variation(one: Mapping[Text, Real], other: Mapping[Text, Real]) -> Real:
    """Half the sum of all differences of probability."""
    return sum(abs(one.get(text, 0) - other.get(text, 0)) for text in {*one, *other}) / 2


def texts(vocabulary: int, length: int) -> Iterator[Text]:
    """All texts of up to `length` tokens, the empty one first."""
    for n in range(length + 1):
        yield from product(range(vocabulary), repeat=n)


def _completed(written: Mapping[Text, Real], target: Callable[[Text], Law], length: int) -> Mapping[Text, Real]:
    """Texts of `length` tokens, those that are shorter continued by the target."""
    found: dict[Text, Real] = defaultdict(int)
    ahead = dict(written)
    while ahead:
        text, mass = ahead.popitem()
        if len(text) >= length:
            found[text[:length]] += mass
            continue
        law = target(text)
        for token, share in zip(law.tokens.tolist(), law.mass.tolist(), strict=True):
            if share:
                longer = (*text, token)
                ahead[longer] = ahead.get(longer, 0) + mass * share
    return found


class _Lazy(Sequence):
    """Laws that are made when asked for."""

    def __init__(self, makers: Sequence[Callable[[], Law]]):
        self._makers = makers

    def __len__(self) -> int:
        return len(self._makers)

    def __getitem__(self, index: int) -> Law:
        return self._makers[index]()
