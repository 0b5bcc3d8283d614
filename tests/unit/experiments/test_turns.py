import pytest
import torch

from specpress.data.questions import Question, save_questions
from specpress.experiments.assets import Assets
from specpress.experiments.duels.arms import arm_of, build
from specpress.experiments.duels.contest import Contest
from specpress.experiments.duels.prompts import Turns
from specpress.experiments.preflight import check_template
from specpress.models.build import random_model
from specpress.models.byte_level import byte_tokenizer
from specpress.models.save import save_model

SPEC = {"data": "questions", "prompt_tokens": 40, "max_new_tokens": 8, "most_prompts": 10, "seed": 5}
TOKENIZER = byte_tokenizer()
QUESTIONS = [
    Question("a1", "a", False, ["first of a", "second"]),
    Question("a2", "a", False, ["x" * 41]),
    Question("b1", "b", False, ["b"]),
]


class Answers:
    """A baseline that numbers its answers, and keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, tokens):
        self.asked.append(TOKENIZER.decode(tokens))
        return f" answer {len(self.asked)}"


def test_turns_are_played_one_after_the_other_and_answered_once():
    answers = Answers()
    turns = Turns(SPEC, QUESTIONS, TOKENIZER, answers)
    assert [(p.question.id, p.turn) for p in turns] == [("a1", 0), ("a1", 1), ("b1", 0)]
    assert TOKENIZER.decode(turns[1].passages[0].tokens) == "first of a answer 1\nsecond"
    assert turns[1:2] == [turns[1]]
    assert answers.asked == ["first of a"]
    assert [p.seed for p in turns] == [5, 6, 7]
    where = turns[1].where()
    assert (where["document"], where["category"], where["turn"]) == ("a1", "a", 1)


def test_nothing_is_answered_before_its_turn_comes():
    answers = Answers()
    turns = Turns(SPEC, QUESTIONS, TOKENIZER, answers)
    assert (turns[0].turn, turns[2].question.id) == (0, "b1")
    assert answers.asked == []


def test_prompts_that_are_too_long_are_left_out_with_the_turns_after_them():
    room = len("first of a") + len("second") + 1 + SPEC["max_new_tokens"]
    assert len(Turns(SPEC | {"prompt_tokens": room}, QUESTIONS, TOKENIZER, Answers())) == 3
    assert len(Turns(SPEC | {"prompt_tokens": room - 1}, QUESTIONS, TOKENIZER, Answers())) == 2


def test_a_category_without_a_short_prompt_is_refused():
    with pytest.raises(ValueError, match=r"no prompt of the category 'a' has at most 5 tokens .* the shortest has 10"):
        Turns(SPEC | {"prompt_tokens": 5}, QUESTIONS, TOKENIZER, Answers())


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """A target, and questions of two categories that differ in length, as the workflow prepares them."""
    folder = tmp_path_factory.mktemp("questions")
    source = {"architecture": "llama", "hidden_size": 32, "layers": 2, "heads": 2, "seed": 0}
    save_model(*random_model(source, dtype=torch.float32), folder / "target", {})
    made = [Question(f"q{i}", "ab"[i % 2], False, ["abcabcabcabc"[: 4 + i % 7] * 2]) for i in range(24)]
    save_questions(folder / "asked", made, {})
    return folder


def test_questions_of_any_length_are_counted_together_as_they_are_alone(questions):
    spec = {
        **{"id": "asked", "kind": "speed", "baseline": "target", "model": "target", "data": "asked", "seed": 0},
        **{"prompt_tokens": 40, "max_new_tokens": 12, "precision": 1e-6, "budget_seconds": 60, "verification": "token"},
        **{"least_prompts": 4, "most_prompts": 24, "sampling": {"name": "greedy", "temperature": 0}},
        **{"drafter": {"name": "prompt_lookup"}, "schedule": {"name": "constant", "gamma": 2}},
    }
    places = {"models": {"target": questions / "target"}, "data": {"asked": questions / "asked"}}
    assets = Assets(**places, device="cpu")
    baseline, method = build({"model": "target"}, assets), build(arm_of(spec), assets)
    contest = Contest(spec, baseline, [method], assets)
    contest._warm_up()
    (contender,) = contest.contenders
    assert contender.together
    group = contest.prompts[3:9]
    assert len({len(prompt.passages[0].tokens) for prompt in group}) > 1
    for run in contest._count(contender, group):
        (alone,) = contest._count(contender, [run.prompt])
        assert (run.text, run.rounds, run.tokens) == (alone.text, alone.rounds, alone.tokens)
        assert run.row()["category"] in "ab"


def test_prompts_for_a_chat_template_are_refused_where_there_is_none(questions, tmp_path):
    save_questions(tmp_path / "chat", [Question("q", "c", True, ["x"])], {})
    with pytest.raises(ValueError, match=r"data\.mine\.chat: the tokenizer of target has no chat template"):
        check_template(questions / "target", tmp_path / "chat", model_name="target", data_name="mine")
    (template := tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    check_template(template.parent, tmp_path / "chat", model_name="target", data_name="mine")
    check_template(questions / "target", questions / "asked", model_name="target", data_name="asked")
