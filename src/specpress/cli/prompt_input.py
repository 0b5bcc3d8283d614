"""The prompts of `specpress generate`: a text, standard input, a file of text, or one of JSON lines with questions."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from specpress.cli.whole import at_least_one

if TYPE_CHECKING:  # imported where it is used: it takes a quarter of a second
    from specpress.data.questions import Question


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what is to be continued."""
    group = parser.add_argument_group("prompts (one of them is needed)")
    group.add_argument("--prompt", metavar="TEXT", help="text to continue; - reads standard input")
    group.add_argument(
        "--prompt-file",
        metavar="FILE",
        help="a file of UTF-8 text; or, if its name ends in .jsonl or .jsonl.gz, of JSON lines with `prompt` or "
        "`turns`, played one after the other (MT-Bench, Spec-Bench, HumanEval)",
    )
    group.add_argument("--chat", action="store_true", help="apply the model's chat template")
    group.add_argument("--prompts", type=at_least_one, metavar="N", help="of a file of questions, only the first N")


@dataclass
class Talk:
    """A question and what has been answered so far."""

    question: "Question"
    title: str = ""
    answers: list[str] = field(default_factory=list)

    def prompts(self, tokenizer) -> Iterator[list[int]]:
        """The tokens of each turn; the answer to one is to be appended to `answers` before the next is taken."""
        from specpress.data.questions import conversation

        for _ in self.question.turns:
            yield conversation(self.question, self.answers, tokenizer)


def talks(args: argparse.Namespace) -> list[Talk]:
    """What was asked for on the command line.

    Raises
    ------
    ValueError
        If there is no prompt or two, a file cannot be read, or a text is not UTF-8.
    """
    from specpress.data.prompt_files import read_questions
    from specpress.data.questions import Question

    if (args.prompt is None) == (args.prompt_file is None):
        raise ValueError("give the text to continue with --prompt, or a file with --prompt-file (one of them)")
    path = None if args.prompt_file is None else Path(args.prompt_file)
    if path and path.name.endswith((".jsonl", ".jsonl.gz", ".parquet")):
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        questions = read_questions(path, chat=args.chat, category="prompt")[: args.prompts]
        return [Talk(question, f"{question.category} {question.id}") for question in questions]
    if args.prompts is not None:
        raise ValueError("--prompts is for a file of questions (.jsonl): leave it out")
    text = _read(path) if path else _given(args.prompt)
    return [Talk(Question("", "", args.chat, [text]))]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}): convert it, as with iconv") from error


def _given(text: str) -> str:
    """The text from the command line or from standard input."""
    try:
        if text != "-":
            text.encode()
            return text
        if sys.stdin is None:
            raise ValueError("standard input is closed: give the prompt with --prompt TEXT, or pipe it in")
        return sys.stdin.read()
    except UnicodeError as error:
        raise ValueError(f"the prompt is not UTF-8 (at character {error.start}): convert it, as with iconv") from error
