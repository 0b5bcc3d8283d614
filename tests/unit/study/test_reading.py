"""A study is judged whole while it is parsed: each problem is told with its place, before anything is made."""

import copy
import re

import pytest
import yaml

from specpress.study.load import StudyError, load_study, read_study
from specpress.study.reading import FileProblem, read_yaml

STUDY = {
    "study": "small",
    "baseline": "target",
    "models": {
        "target": {
            "source": {"kind": "random", "architecture": "llama", "hidden_size": 8, "layers": 3, "heads": 2, "seed": 0}
        }
    },
    "data": {"prose": {"source": {"kind": "path", "path": "prose.txt"}, "reader": "text", "test_fraction": 0.5}},
    "sampling": {"greedy": {"temperature": 0}},
    "experiments": [
        {
            **{"id": "chain", "kind": "chain", "data": "prose", "prompt_tokens": 8, "max_new_tokens": 8},
            **{"precision": 0.2, "budget_seconds": 5, "least_prompts": 2, "most_prompts": 4, "seed": 0},
            "sampling": "greedy",
            "steps": [
                {"name": "one", "title": "One"},
                {"name": "two", "title": "Two", "drafter": {"name": "prompt_lookup"}, "schedule": {"name": "aimd"}},
            ],
        },
        {
            **{"id": "ppl", "kind": "perplexity", "data": "prose", "context": 8, "score": 4, "passages": 2, "seed": 0},
            **{"press": {"name": "knorm"}, "ratios": [0, 0.5]},
        },
    ],
}


def changed(path, value):
    study = copy.deepcopy(STUDY)
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    inner = study
    for key in way:
        inner = inner[key]
    inner[last] = value
    return study


def problems_of(study):
    with pytest.raises(StudyError) as refused:
        load_study(study)
    return refused.value.problems


def test_the_study_of_these_tests_is_valid():
    load_study(STUDY)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "is not YAML: line 3, column 1: the key 'a' is given twice, here and in line 1"),
        ("x:\n  y: 1\n  'y': 2\n", "line 3, column 3: the key 'y' is given twice, here and in line 2"),
        ("x: [{a: 1, a: 2}]\n", "line 1, column 12: the key 'a' is given twice"),
        ("a:\n\tb: 1\n", "line 2, column 1: .*; indent with spaces, not with tabs"),
        ("a: [1, 2\nb: 3\n", "line 2"),
        ("a: b: c\n", "line 1, column 5: mapping values are not allowed"),
        ("a: 'x\n", "line 2"),
        ("a: *nowhere\n", "line 1.*undefined alias"),
        ("? [1, 2]\n: 3\n", "line 1, column 3: a key must be text, not a list"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
        ("a: 1\nb: 2026-13-45\n", "line 2, column 4: month must be in"),
        ("[" * 5000, "not YAML|line"),
        ("a: !!python/object:os.system x\n", "line 1"),
        ("a: é\nb: \x07\n", "line 2: (special characters are not allowed|control characters)"),
    ],
)
def test_a_file_that_is_not_a_study_is_refused_with_its_line(tmp_path, text, said):
    path = tmp_path / "my study.yaml"
    path.write_text(text)
    with pytest.raises(FileProblem, match=said) as refused:
        read_yaml(path)
    assert str(refused.value).startswith(str(path))
    assert str(refused.value).count("\n") == 0
    with pytest.raises(StudyError, match="the study has a problem: "):
        read_study(path)


def test_merged_keys_are_not_given_twice(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &one {x: 1, y: 2}\nb: {<<: *one, x: 3}\n")
    assert read_yaml(tmp_path / "a.yaml")["b"] == {"x": 3, "y": 2}


def test_latin_1_is_refused_with_the_line_and_the_way_out(tmp_path):
    (tmp_path / "a.yaml").write_bytes("study: small\ntitle: Café\n".encode("latin-1"))
    with pytest.raises(FileProblem, match=r"line 2: not UTF-8 \(byte 0xe9\); save it as UTF-8, as with iconv"):
        read_yaml(tmp_path / "a.yaml")


def test_an_alias_within_its_own_anchor_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("experiments: &a\n- *a\n")
    with pytest.raises(StudyError, match="nested deeper than any study; an alias"):
        read_study(tmp_path / "a.yaml")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "path",
    [
        "experiments.0.prompt_tokens",
        "data.prose.test_fraction",
        "sampling.greedy.temperature",
        "experiments.1.press.window_size",
        "experiments.0.steps.0.title",
    ],
)
def test_numbers_that_are_none_are_refused_with_their_path(path, number):
    (problem,) = problems_of(changed(path, number))
    assert problem.endswith(f": must be a finite number, found {number}")
    assert problem.startswith(path.replace(".0", "[0]").replace(".1.", "[1]."))


@pytest.mark.parametrize("path", ["experiments.0.prompt_tokens", "experiments.0.seed", "experiments.1.context"])
def test_a_whole_number_is_written_whole(path):
    (problem,) = problems_of(changed(path, 16.0))
    assert problem.endswith("must be a whole number, found 16.0; write 16")
    (problem,) = problems_of(changed(path, 16.5))
    assert problem.endswith("must be a whole number, found 16.5")


@pytest.mark.parametrize(
    ("press", "key", "value", "said"),
    [
        ("snapkv", "window_size", 16.0, "must be a whole number, found 16.0; write 16"),
        ("snapkv", "kernel_size", "5", "must be a whole number, found '5'"),
        ("expected_attention", "use_vnorm", 1, "must be true or false, found 1"),
        ("expected_attention", "epsilon", "small", "must be a number, found 'small'"),
        ("streaming_llm", "n_sink", 4.5, "must be a whole number, found 4.5"),
        ("streaming_llm", "n_sink", -4, "must be at least 0, found -4"),
        ("random", "seed", 10**20, "must be at most 9007199254740992, found 1"),
    ],
)
def test_options_of_a_press_are_what_its_class_annotates(press, key, value, said):
    (problem,) = problems_of(changed("experiments.1.press", {"name": press, key: value}))
    assert problem.startswith(f"experiments[1].press.{key}: {said}")


def test_a_whole_number_from_a_grid_is_written_whole():
    study = changed("experiments.0.prompt_tokens", "{n}")
    study["experiments"][0] |= {"id": "chain-{n}", "grid": {"n": [8, 16.0]}}
    assert any("must be a whole number, found 16.0" in problem for problem in problems_of(study))


def test_numbers_beyond_all_use_are_refused():
    assert "must be at most" in problems_of(changed("experiments.0.seed", 10**30))[0]
    assert "must be at most" in problems_of(changed("experiments.0.prompt_tokens", 10**30))[0]


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ({"name": "aimd", "cap": 2, "floor": 5}, r"cap \(2\) must not be under floor \(5\)"),
        ({"name": "aimd", "cap": 3}, r"cap \(3\) must not be under floor \(4\)"),
        ({"name": "plus_minus_one", "cap": 1}, r"cap \(1\) must not be under floor \(2\)"),
    ],
)
def test_bounds_that_depend_on_each_other_are_judged_together(schedule, said):
    (problem,) = problems_of(changed("experiments.0.steps.1.schedule", schedule))
    assert problem.startswith("experiments[0].steps[1].schedule: ")
    assert re.search(said, problem)


def test_a_bound_that_the_schema_knows_is_told_once():
    (problem,) = problems_of(changed("experiments.0.steps.1.schedule", {"name": "aimd", "initial": 0}))
    assert problem == "experiments[0].steps[1].schedule.initial: must be at least 1, found 0"


def test_ratios_of_layers_are_as_many_as_the_layers():
    press = {"name": "per_layer_compression", "press": "knorm", "compression_ratios": [0.1, 0.2]}
    path = "experiments[1].press.compression_ratios"
    assert f"{path}: must have one ratio for each of the 3 layers, found 2" in problems_of(
        changed("experiments.1.press", press)
    )


@pytest.mark.parametrize("title", ["two\nlines", "bell\a", ""])
def test_a_title_is_one_line(title):
    assert problems_of(changed("experiments.0.steps.0.title", title))[0].startswith("experiments[0].steps[0].title: ")


@pytest.mark.parametrize("title", ["Ba$$in", "100 % & more", r"\alpha_x^2 }{", "日本語 – ½ 🙂", "~#<>\"'"])
def test_a_title_may_be_any_line(title):
    load_study(changed("experiments.0.steps.0.title", title))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("study", {1: 2}, "study: the key 1 must be text; write it in quotes"),
        ("study", yaml.safe_load("2026-01-01"), "study: found date"),
        ("experiments.0.steps.0.title", "\ud800", "holds half a character"),
        ("experiments.1.press.window_size", {1}, "found set"),
    ],
)
def test_what_is_no_value_of_a_study_is_named(path, value, said):
    (problem,) = problems_of(changed(path, value))
    assert said in problem
