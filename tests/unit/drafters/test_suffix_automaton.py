"""The automaton against a search through the text, after every token of small random texts."""

import random

import pytest

from specpress.drafters.growing.suffix_automaton import SuffixAutomaton


def occurrences(text, part):
    return sum(text[i : i + len(part)] == part for i in range(len(text) - len(part) + 1))


def longest_suffix(context, text):
    """How many tokens at the end of a context occur in a text."""
    return next(n for n in range(len(context), -1, -1) if n == 0 or occurrences(text, context[-n:]))


def texts():
    draw = random.Random(0)
    for alphabet in (1, 2, 3, 8):
        for length in (1, 5, 12, 40):
            yield [draw.randrange(alphabet) for _ in range(length)]


@pytest.mark.parametrize("text", texts(), ids=lambda text: f"{len(set(text))} of {len(text)}")
def test_after_every_token(text):
    automaton = SuffixAutomaton()
    for end, token in enumerate(text, 1):
        automaton.append(token)
        so_far = text[:end]
        state, matched = automaton.suffix()
        earlier = next(n for n in range(end - 1, -1, -1) if n == 0 or occurrences(so_far, so_far[-n:]) > 1)
        assert matched == earlier
        following = {t: automaton.count[child] for t, child in automaton.following[state].items()}
        suffix = so_far[end - matched :]
        assert following == {t: n for t in set(so_far) if (n := occurrences(so_far, [*suffix, t]))}


@pytest.mark.parametrize("text", texts(), ids=lambda text: f"{len(set(text))} of {len(text)}")
def test_follows_a_context_of_other_text(text):
    automaton, draw = SuffixAutomaton(text), random.Random(len(text))
    context, state = [], (0, 0)
    for _ in range(40):
        context.append(draw.randrange(9))
        state = automaton.follow(*state, context[-1])
        assert state[1] == longest_suffix(context, text)
        if state[1]:
            assert automaton.count[state[0]] == occurrences(text, context[-state[1] :])


def test_size_is_linear_even_if_the_text_repeats_itself():
    automaton = SuffixAutomaton([0, 1] * 2000)
    assert len(automaton.length) <= 2 * 4000
    assert automaton.suffix()[1] == 3998
