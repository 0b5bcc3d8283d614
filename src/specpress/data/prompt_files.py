"""Files of prompts: JSON lines, or parquet, as Spec-Bench, MT-Bench and HumanEval have them, or anyone's."""

from collections.abc import Iterable
from pathlib import Path

from specpress.data.questions import Question
from specpress.data.readers import ReaderError, json_records, read_rows

IDS = ("question_id", "task_id", "id")  # Spec-Bench and MT-Bench; HumanEval; anyone's


def read_questions(
    path: str | Path, *, chat: bool = False, category: str | None = None, most_turns: int | None = None
) -> list[Question]:
    """The questions of a file of JSON lines, or rows of parquet, each with `prompt` or `turns`, and a `category`.

    Parameters
    ----------
    chat : whether the model's chat template is to be applied
    category : of records that name none
    most_turns : further turns are left out

    Raises
    ------
    ReaderError
        With the record, if one has no text or no category, or an id that another has.
    """
    questions, seen = [], set()
    for number, record in enumerate(_records(Path(path)), start=1):
        where = f"{path}, record {number}"
        identifier = next((str(record[key]) for key in IDS if record.get(key) is not None), str(number))
        if identifier in seen:
            raise ReaderError(f"{where}: another has the id {identifier!r} already; ids must differ")
        seen.add(identifier)
        named = record.get("category") if record.get("category") is not None else category
        if not isinstance(named, str) or not named.strip():
            raise ReaderError(f"{where}: no `category`; give one there, or `category` of the data set for all")
        questions.append(Question(identifier, " ".join(named.split()), chat, _turns(record, where)[:most_turns]))
    if not questions:
        raise ReaderError(f"{path} holds no prompt")
    return questions


def _records(path: Path) -> Iterable[dict]:
    return read_rows("parquet", path) if path.suffix == ".parquet" else json_records(path)


def _turns(record: dict, where: str) -> list[str]:
    """The texts of a record: `turns`, or `prompt` alone."""
    turns = record.get("turns") if record.get("turns") is not None else record.get("prompt")
    turns = [turns] if isinstance(turns, str) else turns
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) and turn.strip() for turn in turns):
        has = ", ".join(sorted(key for key, value in record.items() if value is not None)) or "nothing"
        raise ReaderError(f"{where}: expected `prompt` (text) or `turns` (a list of texts); it has {has}")
    return turns


def only(questions: list[Question], categories: Iterable[str] | None) -> list[Question]:
    """Those of the given categories; all for None.

    Raises
    ------
    ReaderError
        If one of them is empty; the message names those there are.
    """
    if categories is None:
        return questions
    wanted, known = list(categories), {question.category for question in questions}
    for category in wanted:
        if category not in known:
            raise ReaderError(f"the category {category!r} is empty; there are {', '.join(sorted(known))}")
    return [question for question in questions if question.category in wanted]
