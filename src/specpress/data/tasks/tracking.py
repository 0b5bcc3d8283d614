"""Variable tracking: a number is handed from variable to variable, and who has it is asked for (RULER, section 3)."""

from dataclasses import dataclass

from specpress.data.tasks.task import Drawn, Task, Words


@dataclass(frozen=True)
class VariableTracking(Task):
    """Chains of assignments through the text, in their order; the variables of one chain are asked for.

    Parameters
    ----------
    hops : int, how often each chain hands its number on
    chains : int, all but one of them to distract
    """

    hops: int = 2
    chains: int = 1

    def draw(self, words: Words) -> Drawn:
        """See `Task.draw`."""
        chains = [[words.name() for _ in range(self.hops + 1)] for _ in range(self.chains)]
        numbers = [words.number() for _ in chains]
        lines = [_lines(chain, number) for chain, number in zip(chains, numbers, strict=True)]
        asked = words.random.randrange(self.chains)
        return Drawn(
            _shuffled_together(lines, words),
            f"Which variables have the value {numbers[asked]} in the text? There are {self.hops + 1} of them.",
            f"The {self.hops + 1} variables that have the value {numbers[asked]} are",
            chains[asked],
        )


def _lines(chain: list[str], number: str) -> list[str]:
    return [
        f"VAR {name} = {value}." for name, value in zip(chain, [number, *(f"VAR {n}" for n in chain)], strict=False)
    ]


def _shuffled_together(lists: list[list[str]], words: Words) -> list[str]:
    """All entries of the lists in one, each list's in its own order."""
    turns = [i for i, entries in enumerate(lists) for _ in entries]
    words.random.shuffle(turns)
    left = [iter(entries) for entries in lists]
    return [next(left[i]) for i in turns]
