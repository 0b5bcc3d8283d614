"""What a press breaks: tasks hidden in the texts, answered on the full cache first, then on caches that presses left.

A task that the full cache fails (the interval of its accuracy does not reach the bar) says nothing about presses: they
are not run on it.
"""

from collections.abc import Iterator
from statistics import mean

import torch
from tqdm import tqdm

from specpress.data.documents import Passage
from specpress.data.tasks.task import Problem, Task, pose, score
from specpress.decoding.answers import Answers, Setting, answers
from specpress.experiments.assets import Assets
from specpress.models.tokenizers import ends_of_text
from specpress.presses import Compression, get_press
from specpress.study.registry import TASKS, resolve
from specpress.theory.proportions import is_able

AWARE = "aware"  # the mode in which a press sees the question


def measure(spec: dict, assets: Assets) -> dict:
    """Scores and answers by task: of the full cache and, where it can do the task, of every press, ratio and mode."""
    points = [
        {"press": press, "ratio": ratio, "mode": mode}
        for mode in spec["modes"]
        for press in spec["presses"]
        for ratio in spec["ratios"]
        if ratio
    ]
    settings = [_setting(**point) for point in points]  # presses and tasks are made before a model is loaded
    kinds = [_kind(part) for part in spec["tasks"]]
    tokenizer = assets.tokenizer(spec["model"])
    length, count = spec["context"], spec["samples"]
    passages = assets.passages(spec, count=count, length=length, tokenizer=tokenizer, opened=False)  # `pose` opens them
    tasks = []
    for part, kind in zip(tqdm(spec["tasks"], desc=spec["id"], unit="task"), kinds, strict=True):
        exam = _Exam(spec, assets, _problems(spec, part, kind, passages, tokenizer))
        (full,) = exam.answered([Setting(Compression())])
        able = is_able(full["scores"], spec["bar"])
        results = [p | found for p, found in zip(points, exam.answered(settings), strict=True)] if able else []
        samples = [_sample(*each) for each in zip(passages, exam.problems, strict=True)]
        tasks.append({"task": part, "samples": samples, "full": full, "able": able, "results": results})
    return {"tasks": tasks}


def _setting(press: dict, ratio: float, mode: str) -> Setting:
    return Setting(Compression(get_press(compression_ratio=ratio, **press)), mode == AWARE)


def _kind(part: dict) -> Task:
    return resolve(TASKS, part["name"], "task")(**{key: value for key, value in part.items() if key != "name"})


def _problems(spec: dict, part: dict, kind: Task, passages: list[Passage], tokenizer) -> list[Problem]:
    """The task in every passage; its seed knows neither presses nor batches."""
    chat = spec.get("chat", False)
    return [
        pose(kind, passage.tokens, tokenizer, seed=[spec["seed"], part["name"], number], chat=chat)
        for number, passage in enumerate(passages)
    ]


def _sample(passage: Passage, problem: Problem) -> dict:
    """Where a context comes from, and what an answer has to contain."""
    return {"document": passage.document, "offset": passage.offset, "answers": problem.answers}


class _Exam:
    """The problems of a task, put to the model in batches whose questions are of one length."""

    def __init__(self, spec: dict, assets: Assets, problems: list[Problem]):
        self.spec, self.problems = spec, problems
        self.model, self.tokenizer = assets.model(spec["model"]), assets.tokenizer(spec["model"])

    def answered(self, settings: list[Setting]) -> list[dict]:
        """For each setting the scores and texts of all answers, and the mean size of one row's cache."""
        texts: list[dict[int, str]] = [{} for _ in settings]
        sizes: list[list[tuple[int, int]]] = [[] for _ in settings]  # slots and bytes of each problem's cache
        for batch in self._batches():
            found = list(self._answers([self.problems[i] for i in batch], settings))
            for said, size, each in zip(texts, sizes, found, strict=True):
                size += [(each.slots, each.kv_bytes // len(batch))] * len(batch)
                said |= zip(batch, (self.tokenizer.decode(row) for row in each.tokens), strict=True)
        means = [dict(zip(("slots", "kv_bytes"), map(mean, zip(*size, strict=True)), strict=True)) for size in sizes]
        return [self._scored(said) | size for said, size in zip(texts, means, strict=True)]

    def _answers(self, batch: list[Problem], settings: list[Setting]) -> Iterator[Answers]:
        rows = ([getattr(problem, part) for problem in batch] for part in ("context", "question", "lead"))
        tensors = [torch.tensor(tokens, device=self.model.device) for tokens in rows]
        new = self.spec["answer_tokens"] * max(len(problem.answers) for problem in batch)
        stop = ends_of_text(self.model, self.tokenizer)
        return answers(self.model, *tensors, settings=settings, max_new_tokens=new, eos_token_id=stop)

    def _scored(self, texts: dict[int, str]) -> dict:
        said = [texts[i] for i in range(len(self.problems))]
        return {"scores": [score(p.answers, text) for p, text in zip(self.problems, said, strict=True)], "texts": said}

    def _batches(self) -> Iterator[list[int]]:
        """Numbers of problems, at most `batch` at once, whose tokens have one shape."""
        shapes: dict[tuple[int, int], list[int]] = {}
        for number, problem in enumerate(self.problems):
            shapes.setdefault((len(problem.question), len(problem.lead)), []).append(number)
        size = self.spec.get("batch", 1)
        for alike in shapes.values():
            yield from (alike[start : start + size] for start in range(0, len(alike), size))
