"""Common words: which words a list has most often (RULER, section 3, "aggregation")."""

from dataclasses import dataclass

from specpress.data.tasks.task import Drawn, Task, Words


@dataclass(frozen=True)
class CommonWords(Task):
    """A list of words, shuffled, in the middle of the text; the most common ones are asked for.

    Parameters
    ----------
    common : int, words to be named
    times : int, how often each of them is in the list
    others : int, words that are in it once
    """

    common: int = 2
    times: int = 10
    others: int = 20

    def draw(self, words: Words) -> Drawn:
        """See `Task.draw`."""
        found = words.nouns(self.common + self.others)
        common = found[: self.common]
        listed = common * self.times + found[self.common :]
        words.random.shuffle(listed)
        return Drawn(
            [f"A list of words: {', '.join(listed)}. Here the list ends."],
            f"Which {self.common} words are the most common ones in the list of words?",
            f"The {self.common} most common words in the list are",
            common,
        )
