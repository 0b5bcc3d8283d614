"""The answers of an experiment in Spec-Bench's own output format, so that its scripts read them.

One JSON object a line: question_id, category, answer_id, model_id, tstamp, choices; of the one choice, for each turn:
its text (turns), rounds (decoding_steps), tokens (new_tokens), wall_time, and accept_lengths, the tokens of every round
(https://github.com/hemingkx/Spec-Bench, evaluation/eval.py and speed.py).

wall_time is the sum of the parts of the rounds as duels measured them, in the experiment's median baseline step, and
for the baseline so many of those steps: seconds of different minutes, which the script divides by each other, would
bring back the noise that duels keep out. Reading the prompt, and the first token, which that gives, count in neither
tokens nor time.
"""

import hashlib
from collections.abc import Iterator, Mapping
from statistics import median

from specpress.analysis.rows import place
from specpress.theory.costs import Brackets, costs


def answers(item: Mapping) -> tuple[list[dict], list[dict]]:
    """The lines of a speed experiment with questions: (the method's, the baseline's), a question each."""
    kinds = sorted({(part, size) for run in item["runs"] for part, size, _ in run["rounds"]})
    found = costs(Brackets.from_columns(item["brackets"]), kinds) if kinds else {}
    step = median(item["brackets"]["before"]) if item["brackets"]["before"] else 0.0
    both: tuple[dict, dict] = ({}, {})
    for run in item["runs"]:
        if run.get("category") is None or run["tokens"] <= 0:
            continue
        rounds = [committed for committed in run["method"]["trace"]["committed"] if committed]
        steps = sum(number * found[part, size] for part, size, number in run["rounds"])
        for lines, who, lengths, seconds in (
            (both[0], item["id"], rounds, steps * step),
            (both[1], f"{item['spec']['baseline']} alone", [1] * run["tokens"], run["tokens"] * step),
        ):
            choice = lines.setdefault(place(run), _line(run, who, item))["choices"][0]
            for key, value in (
                ("turns", run.get("text", "")), ("decoding_steps", len(lengths)), ("new_tokens", run["tokens"]),
                ("wall_time", seconds),
            ):  # fmt: skip
                choice[key].append(value)
            choice["accept_lengths"] += lengths
    method, baseline = (list(lines.values()) for lines in both)
    for lines in (method, baseline):
        _number(lines)
    return method, baseline


def _number(lines: list[dict]) -> None:
    """Give questions the numbers that their ids end with, if no two have one: Spec-Bench's own are numbers."""
    numbers = [line["question_id"].rpartition("/")[2] for line in lines]
    if all(number.isdecimal() for number in numbers) and len({int(number) for number in numbers}) == len(lines):
        for line, number in zip(lines, numbers, strict=True):
            line["question_id"] = int(number)


def _line(run: Mapping, who: str, item: Mapping) -> dict:
    identifier = run["document"]
    choice: dict = {"index": 0, "turns": [], "decoding_steps": [], "new_tokens": [], "wall_time": []}
    return {
        "question_id": identifier,
        "category": run["category"],
        "answer_id": hashlib.sha256(f"{who}/{identifier}".encode()).hexdigest()[:22],
        "model_id": who,
        "choices": [choice | {"accept_lengths": []}],
        "tstamp": item.get("started"),
    }


def has_questions(item: Mapping) -> bool:
    """Whether an experiment's prompts are questions with categories."""
    return item["kind"] == "speed" and any(run.get("category") is not None for run in item["runs"])


def lines_of(metrics: list[Mapping]) -> Iterator[tuple[str, list[dict]]]:
    """(name of the file, its lines) of every experiment with questions: the method's, and the baseline's beside it."""
    for item in metrics:
        if has_questions(item):
            ours, theirs = answers(item)
            yield f"{item['id']}.jsonl", ours
            yield f"{item['id']}.baseline.jsonl", theirs
