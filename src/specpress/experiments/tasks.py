"""What a press breaks: tasks hidden in the texts, answered on the full cache first, then on caches that presses left.

A task that the full cache fails (the interval of its accuracy does not reach the bar) says nothing about presses: they
are not run on it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tqdm import tqdm

from specpress.data.documents import Passage
from specpress.data.tasks.task import Problem, Task, pose, score
from specpress.decoding.answers import Answers, Setting, answers
from specpress.experiments.assets import Assets
from specpress.presses import Compression, get_press
from specpress.study.registry import TASKS, resolve
from specpress.theory.proportions import is_able

AGNOSTIC, AWARE = "agnostic", "aware"


@dataclass(frozen=True)
class Point:
    """A press at a ratio, and whether it sees the question (`mode`)."""

    press: int
    ratio: float
    mode: str


def measure(spec: dict, assets: Assets) -> dict:
    """Scores and answers by task: of the full cache and, where it can do the task, of every press, ratio and mode."""
    points = [
        Point(press, ratio, mode)
        for mode in spec["modes"]
        for press in range(len(spec["presses"]))
        for ratio in spec["ratios"]
        if ratio
    ]
    settings = [_setting(spec, point) for point in points]
    kinds = [_kind(part) for part in spec["tasks"]]  # before a model is loaded
    tokenizer = assets.tokenizer(spec["model"])
    passages = assets.passages(spec, count=spec["samples"], length=spec["context"], tokenizer=tokenizer)
    tasks = []
    for part, kind in zip(tqdm(spec["tasks"], desc=spec["id"], unit="task"), kinds, strict=True):
        run = _Run(spec, assets, _problems(spec, part, kind, passages, tokenizer))
        (full,) = run.answered([Setting(Compression())])
        able = is_able(full["scores"], spec["bar"])
        found = run.answered(settings) if able else []
        results = [_named(spec, point) | each for point, each in zip(points, found, strict=True)] if able else []
        samples = [_sample(*each) for each in zip(passages, run.problems, strict=True)]
        tasks.append({"task": part, "samples": samples, "full": full, "able": able, "results": results})
    return {"tasks": tasks}


def _sample(passage: Passage, problem: Problem) -> dict:
    """Where a context comes from, and what an answer has to contain."""
    return {"document": passage.document, "offset": passage.offset, "answers": problem.answers}


def _kind(part: dict) -> Task:
    return resolve(TASKS, part["name"], "task")(**{key: value for key, value in part.items() if key != "name"})


def _setting(spec: dict, point: Point) -> Setting:
    press = get_press(compression_ratio=point.ratio, **spec["presses"][point.press])
    return Setting(Compression(press), point.mode == AWARE)


def _named(spec: dict, point: Point) -> dict:
    return {"press": spec["presses"][point.press], "ratio": point.ratio, "mode": point.mode}


def _problems(spec: dict, part: dict, kind: Task, passages: list[Passage], tokenizer) -> list[Problem]:
    chat = spec.get("chat", False)
    return [
        pose(kind, passage.tokens, tokenizer, seed=[spec["seed"], part["name"], number], chat=chat)
        for number, passage in enumerate(passages)
    ]


class _Run:
    """The problems of a task, posed to the model: in batches whose questions are of one length."""

    def __init__(self, spec: dict, assets: Assets, problems: list[Problem]):
        self.spec, self.problems = spec, problems
        self.model, self.tokenizer = assets.model(spec["model"]), assets.tokenizer(spec["model"])

    def answered(self, settings: list[Setting]) -> list[dict]:
        """For each setting the answers of all problems as texts, their scores, and the size of a row's cache."""
        texts: list[dict[int, str]] = [{} for _ in settings]
        sizes: list[Answers] = []
        for batch in self._batches():
            found = list(self._answers([self.problems[i] for i in batch], settings))
            sizes = [(each.slots, each.kv_bytes // len(batch)) for each in found]
            for said, each in zip(texts, found, strict=True):
                said |= dict(zip(batch, (self.tokenizer.decode(row) for row in each.tokens), strict=True))
        return [
            self._scored(said) | {"slots": slots, "kv_bytes": size}
            for said, (slots, size) in zip(texts, sizes, strict=True)
        ]

    def _answers(self, batch: list[Problem], settings: list[Setting]) -> Iterator[Answers]:
        rows = ([getattr(problem, part) for problem in batch] for part in ("context", "question", "lead"))
        tensors = [torch.tensor(tokens, device=self.model.device) for tokens in rows]
        new, stop = self.spec["max_new_tokens"], self.tokenizer.eos_token_id
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
