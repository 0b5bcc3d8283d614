"""The prompts of a contest: passages of one length, or the questions of a data set of prompts, turn by turn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from specpress.data.documents import Passage
from specpress.data.questions import Question, conversation, in_turn


@dataclass(frozen=True)
class Prompt:
    """A prompt (a batch of passages), and the seed its tokens are drawn with; `question` and `turn` if it is of one."""

    number: int
    seed: int
    passages: list[Passage]
    question: Question | None = None
    turn: int = 0

    def where(self) -> dict:
        """The columns of the metrics file that say which prompt this was. A batch goes by its first passage.

        The turns of a question are one unit: they have the same document and offset.
        """
        first = self.passages[0]
        of_question = {"category": self.question.category, "turn": self.turn} if self.question else {}
        return {
            "prompt": self.number,
            "document": first.document,
            "offset": first.offset,
            **of_question,
            "seed": self.seed,
            "prompt_tokens": len(first.tokens),
        }


class Turns(Sequence[Prompt]):
    """The turns of questions as prompts, made when they are asked for: a later one holds the answers to the earlier.

    Parameters
    ----------
    spec : prompt_tokens, the most a prompt may have; max_new_tokens, the most an answer may have; most_prompts, seed
    questions : in any order; they are taken in turn from each category
    tokenizer : of the baseline
    answer : the baseline's greedy continuation of a prompt's tokens, as text. All methods get the same prompts

    Raises
    ------
    ValueError
        If a category has no prompt that is short enough, or the chat template that a question asks for is missing.
    """

    def __init__(self, spec: dict, questions: Sequence[Question], tokenizer, answer: Callable[[list[int]], str]):
        self._seed, self._tokenizer, self._answer = spec["seed"], tokenizer, answer
        self._answers: dict[str, list[str]] = {}
        self._made: dict[int, Prompt] = {}
        entries, shortest = [], {}
        for question in in_turn(questions, spec["seed"]):
            for turn in range(len(question.turns)):
                length = len(conversation(question, [""] * turn, tokenizer)) + turn * spec["max_new_tokens"]
                shortest[question.category] = min(length, shortest.get(question.category, length))
                if length > spec["prompt_tokens"]:
                    break
                entries.append((question, turn))
        found = {question.category for question, _ in entries}
        for category, length in shortest.items():
            if category not in found:
                raise ValueError(
                    f"{spec['data']}: no prompt of the category {category!r} has at most {spec['prompt_tokens']} "
                    f"tokens (prompt_tokens); the shortest has {length}. Raise it, or leave the category out with "
                    "`categories`"
                )
        self._entries = entries[: spec["most_prompts"]]

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        if number not in self._made:
            self._made[number] = self._prompt(number)
        return self._made[number]

    def _prompt(self, number: int) -> Prompt:
        question, turn = self._entries[number]
        answers = self._answers.setdefault(question.id, [])
        while len(answers) < turn:
            answers.append(self._answer(conversation(question, answers, self._tokenizer)))
        tokens = conversation(question, answers[:turn], self._tokenizer)
        return Prompt(number, self._seed + number, [Passage(question.id, 0, tokens)], question, turn)
