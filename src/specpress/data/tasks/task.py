"""A task: what is hidden in a text, what is asked about it, how an answer is scored. All of it follows from a seed."""

import json
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from specpress.data.chat import in_template, opening

SENTENCE_ENDS = (".", "!", "?", "\n")
CONSONANTS = "BCDFGHJKLMNPQRSTVWXZ"  # names of these are in no word of a text, nor of an answer
_DIGITS = 5  # of a hidden value
_TRIES = 1000


@dataclass(frozen=True)
class Drawn:
    """What a task drew: `needles` to hide in this order, the question, how an answer begins, and all it has to name."""

    needles: list[str]
    question: str
    lead: str
    answers: list[str]


@dataclass(frozen=True)
class Problem:
    """A drawn task as tokens: context, question and the beginning of the answer; `answers` is what it has to name."""

    context: list[int]
    question: list[int]
    lead: list[int]
    answers: list[str]


class Task(ABC):
    """A kind of task. A dataclass: its fields are the counts that a study sets."""

    @abstractmethod
    def draw(self, words: "Words") -> Drawn:
        """One such task; all that is random comes from `words`."""


class Words:
    """Keys, numbers and order for a task, drawn from a seed: none of them occurs in `text`, none is given twice.

    Parameters
    ----------
    text : what the task will be hidden in
    seed : anything that JSON holds; the same one draws the same in every process
    """

    def __init__(self, text: str, seed):
        self.random = random.Random(json.dumps(seed))
        self._text, self._given = text.lower(), set()

    def nouns(self, count: int) -> list[str]:
        """`count` different plain nouns, of NOUNS, that the text does not use.

        Raises
        ------
        ValueError
            If there are not so many.
        """
        used = self._given | set(re.findall(r"\w+", self._text))
        left = [noun for noun in NOUNS if noun not in used]
        if len(left) < count:
            raise ValueError(f"{count} words are to be drawn, and only {len(left)} are left that the text does not use")
        drawn = self.random.sample(left, count)
        self._given |= set(drawn)
        return drawn

    def number(self) -> str:
        """A number of five digits that stands nowhere in the text."""
        return self._new(lambda: str(self.random.randrange(10 ** (_DIGITS - 1), 10**_DIGITS)))

    def name(self) -> str:
        """A name of three consonants that stands nowhere in the text."""
        return self._new(lambda: "".join(self.random.sample(CONSONANTS, 3)))

    def _new(self, draw) -> str:
        for _ in range(_TRIES):
            found = draw()
            if found.lower() not in self._text and found not in self._given:
                self._given.add(found)
                return found
        raise ValueError(f"{_TRIES} values were drawn, and the text has them all: {found!r} was the last")


def score(answers: Sequence[str], text: str) -> float:
    """The share of the answers that the text contains, in whatever case: RULER's string match (section 4).

    >>> score(["alpha", "beta"], "It was ALPHA, I think.")
    0.5
    """
    text = text.lower()
    return sum(answer.lower() in text for answer in answers) / len(answers)


def pose(task: Task, tokens: Sequence[int], tokenizer, *, seed, chat: bool = False) -> Problem:
    """A task hidden in a text.

    Parameters
    ----------
    task : its kind
    tokens : of the text, as many as the context is to have; the end of it gives way to what is hidden
    tokenizer : PreTrainedTokenizerBase
    seed : anything that JSON holds; with the text it decides everything
    chat : whether context and question stand in a user's turn of the model's own chat template

    Returns
    -------
    Problem, with `context` of len(tokens).

    Raises
    ------
    ValueError
        If what is hidden is longer than the text, or the tokenizer has no chat template.
    """
    words = Words(tokenizer.decode(tokens), seed)
    drawn = task.draw(words)
    before, after = frame(tokenizer) if chat else ("", "\n")
    head = _encoded(tokenizer, before) if chat else opening(tokenizer)
    needles = [_encoded(tokenizer, f" {needle}") for needle in drawn.needles]
    context = head + hide(list(tokens), needles, tokenizer, words.random, room=len(tokens) - len(head))
    question, lead = f"\n\nQuestion: {drawn.question}", f"{after}Answer: {drawn.lead}"
    return Problem(context, _encoded(tokenizer, question), _encoded(tokenizer, lead), drawn.answers)


def hide(tokens: list[int], needles: list[list[int]], tokenizer, generator: random.Random, *, room: int) -> list[int]:
    """The text with the needles in it, in their order, each after the end of a sentence; `room` tokens in all."""
    kept = room - sum(map(len, needles))
    if kept < len(needles):
        raise ValueError(
            f"what is hidden takes {room - kept} tokens, and the context leaves it {room}: "
            "ask for a longer context, or for less to be hidden"
        )
    ends = [i + 1 for i in range(kept) if tokenizer.decode(tokens[i : i + 1]).rstrip(" ").endswith(SENTENCE_ENDS)]
    if len(ends) < len(needles):
        ends = range(1, kept + 1)
    places = sorted(generator.sample(ends, len(needles)))
    hidden, start = [], 0
    for place, needle in zip(places, needles, strict=True):
        hidden += [*tokens[start:place], *needle]
        start = place
    return hidden + tokens[start:kept]


def frame(tokenizer) -> tuple[str, str]:
    """What the model's chat template puts before a user's first words, and after them up to the answer."""
    mark = "\u241f"
    before, _, after = in_template([{"role": "user", "content": mark}], tokenizer).partition(mark)
    return before, after


def _encoded(tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False, verbose=False)


_NOUNS = """
apple banana beach bottle button camera candle carpet cheese cherry chicken clock coffee cotton dinner dragon drum
farmer flower forest fruit garden ghost glass hammer honey horse jacket juice kitchen knife lemon letter milk mirror
monkey mouse needle nurse onion orange pencil piano pillow pizza pocket potato rabbit ribbon salad shirt shoe snake
soap spider spoon sugar teacher tiger tomato towel tower violin wheel window winter wolf
"""
NOUNS = _NOUNS.split()  # none that is part of a common word: an answer is found by what its text contains
