"""Data sets of prompts: questions with a category, of one turn or several, as Spec-Bench and MT-Bench have them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

import pyarrow as pa

from specpress.data.chat import in_template, opening
from specpress.data.documents import uniform
from specpress.data.store import TEST, load_table, save_tables

PROMPTS = "prompts"  # the kind of such a data set, in the study and in its manifest
QUESTION = pa.schema(
    {"id": pa.string(), "category": pa.string(), "chat": pa.bool_(), "turns": pa.list_(pa.large_string())}
)


@dataclass(frozen=True)
class Question:
    """What a user says, turn by turn; `chat`: in the form of the model's chat template."""

    id: str
    category: str
    chat: bool
    turns: list[str]


def joined(sets: dict[str, Iterable[Question]]) -> list[Question]:
    """The questions of several sets as one; an id is led by the name of its set."""
    return [
        Question(f"{name}/{question.id}", question.category, question.chat, question.turns)
        for name, questions in sets.items()
        for question in questions
    ]


def save_questions(directory: str | Path, questions: list[Question], manifest: dict) -> dict:
    """Save a data set of prompts; the manifest also says how many there are of each category, and comes back."""
    counts = {name: sum(q.category == name for q in questions) for name in dict.fromkeys(q.category for q in questions)}
    manifest = {**manifest, "kind": PROMPTS, "chat": any(q.chat for q in questions), "categories": counts}
    save_tables(directory, {TEST: pa.Table.from_pylist([asdict(q) for q in questions], QUESTION)}, manifest)
    return manifest


def load_questions(directory: str | Path) -> list[Question]:
    """The questions that `save_questions` wrote.

    Raises
    ------
    StoreError
        If there are none.
    """
    return [Question(**row) for row in load_table(directory, TEST, QUESTION).to_pylist()]


def is_prompts(directory: str | Path) -> bool:
    """Whether a prepared data set is one of prompts."""
    manifest = Path(directory, "manifest.json")
    return manifest.is_file() and json.loads(manifest.read_text(encoding="utf-8")).get("kind") == PROMPTS


def in_turn(questions: Iterable[Question], seed: int) -> Iterator[Question]:
    """One question of each category, then a second of each, ...: wherever one stops, all are as well known.

    Within a category the order is one that `seed` decides.
    """
    groups: dict[str, list[Question]] = {}
    for question in sorted(questions, key=lambda question: uniform(seed, question.id)):
        groups.setdefault(question.category, []).append(question)
    for turn in zip_longest(*(groups[name] for name in sorted(groups))):
        yield from (question for question in turn if question is not None)


def conversation(question: Question, answers: list[str], tokenizer) -> list[int]:
    """Tokens of the prompt of turn `len(answers)`: what was said before with the answers, and the turn itself.

    Without a chat template turns and answers follow each other on lines of their own, as text to be continued; it
    begins as the tokenizer begins a text.

    Raises
    ------
    ValueError
        If the question is for a chat template and the tokenizer has none.
    """
    turns = question.turns[: len(answers) + 1]
    if not question.chat:
        text = "".join(f"{turn}{answer}\n" for turn, answer in zip(turns, answers, strict=False)) + turns[-1]
        return opening(tokenizer) + tokenizer.encode(text, add_special_tokens=False, verbose=False)
    said = [{"role": "user", "content": turns[0]}]
    for answer, turn in zip(answers, turns[1:], strict=True):
        said += [{"role": "assistant", "content": answer}, {"role": "user", "content": turn}]
    return tokenizer.encode(in_template(said, tokenizer), add_special_tokens=False, verbose=False)
