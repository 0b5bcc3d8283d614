"""Tasks: what is hidden, where, and how answers are scored. A tokenizer of bytes stands in for a model's."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from specpress.data.tasks.task import NOUNS, Words, pose, score
from specpress.study.registry import TASKS, resolve

SOURCE = Path(__file__).parents[3] / "src"
TEXT = "The ship left at noon. Nobody saw it go! Was the sea calm?\nIt was, and the day was long. "


class Bytes:
    """A token a byte."""

    chat_template = "turns"

    def encode(self, text, **options):
        return list(text.encode())

    def decode(self, tokens, **options):
        return bytes(tokens).decode()

    def apply_chat_template(self, turns, **options):
        return f"<user>{turns[0]['content']}</user><model>"


def posed(name, *, seed=0, length=1800, chat=False, **options):
    """(problem, its context as text) of a task in a text of `length` tokens."""
    tokenizer = Bytes()
    tokens = tokenizer.encode(TEXT * (length // len(TEXT) + 1))[:length]
    problem = pose(resolve(TASKS, name, "task")(**options), tokens, tokenizer, seed=[seed, name], chat=chat)
    return problem, tokenizer.decode(problem.context)


@pytest.mark.parametrize("name", TASKS)
def test_the_context_has_the_length_asked_for_and_holds_every_answer(name):
    for length in (1500, 1801):
        for chat in (False, True):
            problem, context = posed(name, length=length, chat=chat)
            assert len(problem.context) == length
            assert problem.answers
            assert all(answer in context for answer in problem.answers)
            assert not any(answer in Bytes().decode(problem.question + problem.lead) for answer in problem.answers)
            assert score(problem.answers, context) == 1


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_decides_everything_and_another_one_draws_another_task(name):
    assert posed(name, seed=3) == posed(name, seed=3)
    assert posed(name, seed=3)[0].answers != posed(name, seed=4)[0].answers


def test_another_process_draws_the_same_tasks():
    code = "import test_task_making as t; print([t.posed(n, seed=7) for n in t.TASKS])"
    here = [posed(name, seed=7) for name in TASKS]
    for hashing in ("1", "2"):
        paths = {"PYTHONPATH": os.pathsep.join([str(SOURCE), str(Path(__file__).parent)]), "PYTHONHASHSEED": hashing}
        run = subprocess.run([sys.executable, "-c", code], env=os.environ | paths, capture_output=True, text=True)
        assert run.stdout.strip() == str(here), run.stderr


def test_what_is_hidden_follows_the_ends_of_sentences_and_the_text_goes_on_around_it():
    _, context = posed("several_needles", needles=5)
    hidden = re.findall(r" The secret number of the \w+ is \d{5}\.", context)
    assert len(hidden) == 5
    for needle in hidden:
        assert context[: context.index(needle)].rstrip(" ")[-1] in ".!?\n"
    rest = re.sub(r" The secret number of the \w+ is \d{5}\.", "", context)
    assert (TEXT * 30).startswith(rest)
    assert len(rest) + sum(map(len, hidden)) == 1800


def test_needles_lie_anywhere_and_any_of_them_is_asked_for():
    depths, order = [], Counter()
    for seed in range(60):
        problem, context = posed("several_needles", seed=seed, needles=3)
        depths.append(context.index(problem.answers[0]) / len(context))
        order[re.findall(r"is (\d{5})", context).index(problem.answers[0])] += 1
    assert min(depths) < 0.15
    assert max(depths) > 0.85
    assert set(order) == {0, 1, 2}
    assert max(order.values()) < 40


def test_numbers_and_words_are_new_to_the_text_and_drawn_once():
    text = " ".join([*NOUNS[3:], *(str(number) for number in range(10_000, 99_999) if number % 10)])
    words = Words(text, 0)
    assert sorted(words.nouns(2) + words.nouns(1)) == sorted(NOUNS[:3])
    numbers = [words.number() for _ in range(50)]
    assert len(set(numbers)) == 50
    assert all(number.endswith("0") for number in numbers)
    with pytest.raises(ValueError, match="1 words are to be drawn, and only 0 are left"):
        words.nouns(1)


def test_no_noun_is_part_of_another():
    assert [(a, b) for a in NOUNS for b in NOUNS if a in b and a != b] == []


def test_a_chain_of_variables_stands_in_its_order_and_others_distract():
    problem, context = posed("variable_tracking", hops=3, chains=2)
    assignments = re.findall(r"VAR (\w{3}) = (?:VAR )?(\w+)\.", context)
    values = {}
    for name, value in assignments:
        values[name] = values.get(value, value)  # its source has been seen
    assert len(assignments) == 8
    assert set(Counter(values.values()).values()) == {4}
    asked = re.search(r"value (\d{5})", Bytes().decode(problem.question))[1]
    assert sorted(problem.answers) == sorted(name for name, value in values.items() if value == asked)


def test_common_words_are_the_most_common_ones_of_the_list():
    problem, context = posed("common_words", common=2, times=5, others=12)
    counts = Counter(word for word in re.findall(r"\w+", context) if word in NOUNS)
    assert dict(counts.most_common(2)) == dict.fromkeys(problem.answers, 5)
    assert sorted(counts.values()) == [*[1] * 12, 5, 5]


def test_several_values_are_all_asked_for():
    problem, context = posed("several_values", values=4)
    assert len(set(problem.answers)) == 4
    assert len(set(re.findall(r"secret number of the (\w+) is", context))) == 1


def test_a_context_too_short_for_what_is_hidden_is_refused():
    with pytest.raises(ValueError, match=r"what is hidden takes \d+ tokens, and the context leaves it 100"):
        posed("several_needles", length=100, needles=5)


def test_chat_frames_context_and_question_by_the_models_template():
    problem, context = posed("single_needle", chat=True)
    assert context.startswith("<user>The ship")
    assert Bytes().decode(problem.lead).startswith("</user><model>Answer: The secret number of the")
    plain, _ = posed("single_needle")
    assert "user" not in Bytes().decode(plain.context + plain.question + plain.lead)
    tokenizer = Bytes()
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        pose(resolve(TASKS, "single_needle", "task")(), [1] * 500, tokenizer, seed=0, chat=True)


@pytest.mark.parametrize(
    ("answers", "text", "expected"),
    [
        (["12345"], "It is 12345.", 1),
        (["12345"], "It is 12354.", 0),
        (["lion", "bear"], "The LION, of course", 0.5),
        (["a1", "b2", "c3"], "c3 a1", 2 / 3),
        (["a1"], "", 0),
    ],
)
def test_an_answer_counts_by_the_share_of_what_it_contains(answers, text, expected):
    assert score(answers, text) == pytest.approx(expected)
