"""Data sets of prompts in a study: what is accepted, and what is refused while it is parsed."""

import copy

import pytest

from specpress.study.load import StudyError, load_study

PROMPTS = {"kind": "prompts", "source": {"kind": "path", "path": "questions.jsonl"}}
STUDY = {
    "study": "small",
    "baseline": "target",
    "models": {"target": {"source": {"kind": "path", "path": "somewhere"}}},
    "data": {
        "prose": {"source": {"kind": "path", "path": "prose.txt"}, "reader": "text", "test_fraction": 0.5},
        "hub": {
            "source": {"kind": "hub", "repo": "o/n", "revision": "0" * 40, "config": "raw", "split": "test"},
            **{"reader": "parquet", "test_fraction": 0.5},
        },
        "mine": PROMPTS | {"chat": True, "category": "all", "most_turns": 2, "categories": ["all"]},
        "made": {"kind": "prompts", "source": {"kind": "passages", "data": "prose", "characters": 900, "count": 3}},
        "both": {"kind": "prompts", "source": {"kind": "sets", "data": ["mine", "made"]}},
    },
    "drafts": {"draft": {"target": "target", "data": ["prose"]}},
    "sampling": {"greedy": {"temperature": 0}},
    "experiments": [
        {
            **{"id": "asked", "kind": "speed", "data": "both", "prompt_tokens": 8, "max_new_tokens": 8},
            **{"precision": 0.5, "budget_seconds": 1, "least_prompts": 2, "most_prompts": 2},
            **{"seed": 0, "verification": "token", "sampling": "greedy"},
        }
    ],
}
PERPLEXITY = {"id": "ppl", "kind": "perplexity", "context": 8, "score": 4, "passages": 2, "seed": 0, "data": "mine"}


def problems_of(path: str, value) -> list[str]:
    study = copy.deepcopy(STUDY)
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    part = study
    for key in way:
        part = part[key]
    part[last] = value
    with pytest.raises(StudyError) as caught:
        load_study(study)
    return caught.value.problems


def test_prompts_of_every_source_are_accepted():
    assert load_study(STUDY).experiments["asked"]["data"] == "both"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("data.mine.reader", "jsonl", "data.mine.reader: unknown key"),
        ("data.mine.test_fraction", 0.5, "data.mine.test_fraction: unknown key"),
        ("data.mine.kind", "promts", "data.mine.kind: unknown value 'promts'; known: prompts, text; did you mean"),
        ("data.mine.categories", [], "data.mine.categories: "),
        ("data.mine.most_turns", 0, "data.mine.most_turns: must be at least 1"),
        ("data.prose.chat", True, "data.prose.chat: unknown key"),
        ("data.made.source.data", "prosa", "data.made.source.data: unknown data set 'prosa'; known: "),
        ("data.made.source.data", "mine", "data.made.source.data: 'mine' holds prompts; name a data set of texts"),
        ("data.made.source.characters", 20, "data.made.source.characters: must be at least 300"),
        ("data.made.most_turns", 1, "data.made.most_turns: prompts that are made have categories and one turn"),
        ("data.both.source.data", ["mine", "prose"], "data.both.source.data[1]: 'prose' holds texts; a set of prompts"),
        ("data.both.source.data", ["mine", "nine"], "data.both.source.data[1]: unknown data set 'nine'"),
        ("data.both.source.data", ["both"], "data.both.source.data[0]: 'both' is made of sets itself"),
        ("data.both.chat", True, "data.both.chat: the sets it is made of say that themselves"),
        ("data.hub.source.file", "a.parquet", "data.hub.source.file: does not go with `split`"),
        (
            "data.hub.source",
            {"kind": "hub", "repo": "o/n", "revision": "0" * 40, "config": "raw"},
            "data.hub.source.split: missing beside config",
        ),
        ("drafts.draft.data", ["mine"], "drafts.draft.data[0]: 'mine' holds prompts, which no draft is trained on"),
        ("experiments.0.batch", 2, "experiments[0].batch: prompts differ in length"),
        (
            "experiments.0",
            PERPLEXITY | {"press": {"name": "knorm"}, "ratios": [0, 0.5]},
            "experiments[0].data: 'mine' holds prompts; an experiment of kind perplexity reads texts",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(path, value, said):
    assert any(problem.startswith(said) for problem in problems_of(path, value)), problems_of(path, value)
