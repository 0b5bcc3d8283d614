"""Needles: sentences that say the number of a thing, and one thing is asked for (RULER, section 3, "retrieval")."""

from dataclasses import dataclass

from specpress.data.tasks.task import Drawn, Task, Words


def sentence(thing: str, number: str) -> str:
    """What is hidden."""
    return f"The secret number of the {thing} is {number}."


@dataclass(frozen=True)
class SingleNeedle(Task):
    """One needle, and nothing like it beside it."""

    def draw(self, words: Words) -> Drawn:
        """See `Task.draw`."""
        return _asked_for_one(words, 1)


@dataclass(frozen=True)
class SeveralNeedles(Task):
    """As many needles, each of another thing: one is asked for, the others distract (RULER's "multi-keys").

    Parameters
    ----------
    needles : int
    """

    needles: int = 4

    def draw(self, words: Words) -> Drawn:
        """See `Task.draw`."""
        return _asked_for_one(words, self.needles)


@dataclass(frozen=True)
class SeveralValues(Task):
    """As many numbers of one thing, all asked for; each that is named counts (RULER's "multi-values").

    Parameters
    ----------
    values : int
    """

    values: int = 3

    def draw(self, words: Words) -> Drawn:
        """See `Task.draw`."""
        (thing,) = words.nouns(1)
        numbers = [words.number() for _ in range(self.values)]
        return Drawn(
            [sentence(thing, number) for number in numbers],
            f"What are the {self.values} secret numbers of the {thing}?",
            f"The {self.values} secret numbers of the {thing} are",
            numbers,
        )


def _asked_for_one(words: Words, needles: int) -> Drawn:
    things = words.nouns(needles)
    numbers = [words.number() for _ in things]
    asked = words.random.randrange(needles)
    return Drawn(
        [sentence(*each) for each in zip(things, numbers, strict=True)],
        f"What is the secret number of the {things[asked]}?",
        f"The secret number of the {things[asked]} is",
        [numbers[asked]],
    )
