"""`specpress generate` and `specpress list` as a user sees them."""

import io
import json
import re
import shutil
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from specpress.cli.main import main
from specpress.models.build import random_model
from specpress.models.save import save_model
from specpress.study.registry import DRAFTERS, PRESSES, SCHEDULES


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Directories of a target and a draft with a byte-level tokenizer."""
    root = tmp_path_factory.mktemp("models")
    for name, layers in (("target", 2), ("draft", 1)):
        source = {"architecture": "llama", "hidden_size": 32, "layers": layers, "heads": 2, "seed": layers}
        save_model(*random_model(source, dtype=torch.float32), root / name, {})
    return root


def test_which_version_it_is(capsys, monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    for version, said in ((lambda name: "1.2.3", "specpress 1.2.3"), (absent, "specpress, not installed")):
        monkeypatch.setattr("specpress.cli.main.version", version)
        with pytest.raises(SystemExit, match="0"):
            main(["--version"])
        assert capsys.readouterr().out.startswith(said)


def run(folders, capsys, *arguments, draft=True):
    paths = ["--model", str(folders / "target"), *(["--draft", str(folders / "draft")] if draft else [])]
    status = main(["generate", *paths, "--max-new-tokens", "12", *arguments])
    return status, *capsys.readouterr()


def test_generate_ends_with_a_line_of_figures(folders, capsys):
    status, out, _ = run(folders, capsys, "--prompt", "The river")
    assert status == 0
    figures = out.splitlines()[-1]
    for part in ("12 tokens", "tokens/s", "first token after", "ms a token", "accepted", "tokens an iteration", "MiB"):
        assert part in figures


def test_greedy_text_is_the_same_with_a_draft_without_and_for_every_schedule(folders, capsys):
    def text(*arguments, **draft):
        status, out, _ = run(folders, capsys, "--prompt", "The river", "--temperature", "0", *arguments, **draft)
        assert status == 0
        return out.splitlines()[:-2]

    plain = text(draft=False)
    assert all(text("--schedule", name) == plain for name in SCHEDULES if name != "optimal_tree")
    assert text("--prompt-lookup", "--verification", "block", draft=False) == plain


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt", ""], "the prompt is empty"),
        (["--prompt", "a", "--gamma", "0"], "schedule.gamma: must be at least 1, found 0"),
        (["--prompt", "a", "--gamma", "3", "--schedule", "aimd"], "--gamma is for the constant schedule"),
        (["--prompt", "a", "--top-p", "2"], "top_p must lie in"),
        (["--prompt", "a", "--temperature", "-1"], "temperature must be"),
        (["--prompt", "a", "--prompt-lookup"], "exclude each other"),
        (["--prompt", "a", "--max-new-tokens", "0"], "max_new_tokens must be at least 1"),
        (["--prompt", "a", "--model", "nowhere"], "nowhere is not a directory"),
        (["--prompt", "a", "--draft", "nowhere"], "nowhere is not a directory"),
        (["--prompt", "a", "--threads", "0"], "argument --threads: must be a whole number from 1 on, got '0'; see"),
        (["--prompt", "a", "--threads", "two"], "got 'two'"),
        (["--prompt", "a", "--threads", "99999999"], "threads must be from 1 to 1024, got 99999999"),
        (["--prompt", "a", "--max-new-tokens", "100000"], "ask for at most 2047 new ones"),
        (["--prompt", "a" * 3000], "shorten the prompt to 2036 tokens"),
        (["--prompt", "a\udcff"], "the prompt is not UTF-8 (at character 1)"),
        (["--prompt-file", ""], ". cannot be read: Is a directory"),
        (
            ["--prompt-file", "q.jsonl", "--prompts", "0"],
            "argument --prompts: must be a whole number from 1 on, got '0'",
        ),
        (["--prompt", "a", "--model", ""], "the path of a model is empty"),
        (["--prompt", "a", "--draft", ""], "the path of a model is empty"),
        (["--prompt", "a", "--schedule", ""], "--schedule: '' is no NAME or"),
        (["--prompt", "a", "--press", ""], "--press: '' is no NAME or"),
        (["--prompt", "a", "--verification", ""], "verification: unknown value ''"),
        (["--prompt", "a", "--wrong"], "unrecognized arguments: --wrong; see specpress"),
    ],
)
def test_mistakes_are_one_line_and_no_traceback(folders, capsys, arguments, said):
    status, out, error = run(folders, capsys, *arguments)
    assert status == 2
    assert out == ""
    assert error.startswith("specpress: ")
    assert error.count("\n") == 1
    assert said in error


def test_a_model_without_a_tokenizer_is_one_line(folders, capsys, tmp_path):
    shutil.copytree(folders / "target", tmp_path / "bare", ignore=shutil.ignore_patterns("token*", "special*"))
    status, out, error = run(folders, capsys, "--prompt", "a", "--model", str(tmp_path / "bare"))
    assert (status, out) == (2, "")
    assert error == f"specpress: {tmp_path / 'bare'} has no tokenizer: the prompt cannot be read\n"


@pytest.mark.parametrize(("given", "said"), [(None, "standard input is closed"), (b"ab\xff", "not UTF-8")])
def test_a_prompt_that_standard_input_does_not_hold(folders, capsys, monkeypatch, given, said):
    stream = None if given is None else io.TextIOWrapper(io.BytesIO(given), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", stream)
    status, _, error = run(folders, capsys, "--prompt", "-")
    assert (status, error.count("\n")) == (2, 1)
    assert said in error


def test_a_draft_with_another_tokenizer_of_the_same_size_is_refused(folders, capsys, tmp_path):
    other = shutil.copytree(folders / "draft", tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {"a": 98, "b": 97}
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    status, out, error = run(folders, capsys, "--prompt", "a", "--draft", str(other), draft=False)
    assert (status, out) == (2, "")
    assert "another tokenizer than the target: token 97 is 'b' there and 'a' here" in error


def test_ctrl_c_while_streaming_ends_the_text_with_one_line(folders, capsys, monkeypatch):
    def interrupted(*_, on_tokens, **__):
        on_tokens(torch.tensor([[65, 66]]))
        raise KeyboardInterrupt

    monkeypatch.setattr("specpress.generate", interrupted, raising=False)
    status, out, error = run(folders, capsys, "--prompt", "a")
    assert (status, out, error) == (130, "AB\n", "specpress: interrupted\n")


def test_list_has_a_line_for_each_name(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in (*PRESSES, *DRAFTERS, *SCHEDULES):
        (line,) = (line for line in lines if line.split()[0] == name)
        assert len(line.split()) > 3


def test_list_can_show_one_kind(capsys):
    assert main(["list", "schedules"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "schedules:"
    assert len(lines) == 1 + len(SCHEDULES)


def texts(folders, capsys, *arguments):
    status, out, error = run(folders, capsys, "--temperature", "0", *arguments, draft=False)
    assert status == 0, error
    return out


def test_every_drafter_of_a_study_is_taken_as_a_study_writes_it(folders, capsys):
    plain = texts(folders, capsys, "--prompt", "The river").splitlines()[:-2]
    draft = f"{{name: draft_model, model: {folders / 'draft'}}}"
    cascade = f"{{name: cascade, intermediate_model: {folders / 'draft'}, drafter: {{name: prompt_lookup}}, gamma: 2}}"
    press = "{name: compressed_target, press: {name: knorm, compression_ratio: 0.5}}"
    for drafter in ("prompt_lookup", "{name: prompt_lookup, max_ngram: 2}", draft, cascade, press):
        out = texts(folders, capsys, "--prompt", "The river", "--drafter", drafter, "--gamma", "2")
        assert out.splitlines()[:-2] == plain, drafter
        assert "tokens an iteration" in out


def test_a_press_with_a_ratio_leaves_a_smaller_cache(folders, capsys):
    def cache(*arguments):
        out = texts(folders, capsys, "--prompt", "The river rises " * 60, *arguments)
        return float(out.splitlines()[-1].partition("KV cache ")[2].split()[0])

    assert cache("--press", "knorm", "--ratio", "0.5") < 0.7 * cache()
    budget = ("--cache-budget", "64", "--compression-interval", "4")
    assert cache("--press", "{name: streaming_llm, n_sink: 2}", "--ratio", "0.5", *budget) < 0.3 * cache()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give the text to continue with --prompt"),
        (["--prompt", "a", "--prompt-file", "b"], "(one of them)"),
        (["--prompt-file", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["--prompt-file", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["--prompt", "a", "--prompts", "2"], "--prompts is for a file of questions"),
        (["--prompt", "a", "--chat"], "no chat template"),
        (["--prompt", "a", "--ratio", "0.5"], "--ratio is for a press"),
        (["--prompt", "a", "--press", "snapvk"], "unknown press 'snapvk'"),
        (["--prompt", "a", "--schedule", "aimd"], "--schedule, --gamma and --verification need a drafter"),
        (["--prompt", "a", "--drafter", "lookup"], "unknown drafter 'lookup'; known: "),
        (["--prompt", "a", "--drafter", "[x]"], "--drafter: '[x]' is no NAME or"),
        (["--prompt", "a", "--drafter", "{name: prompt_lookup, ngram: 3}"], "drafter.ngram: unknown option"),
        (["--prompt", "a", "--drafter", "{name: prompt_lookup, max_ngram: 1.5}"], "must be a whole number, found 1.5"),
        (["--prompt", "a", "--drafter", "{name: x, name: y}"], "the key 'name' is given twice"),
        (["--prompt", "a", "--drafter", "{name: draft_model}"], "drafter.model: missing"),
        (["--prompt", "a", "--drafter", "{name: draft_model, model: 5}"], "drafter.model: must be text, found 5"),
        (["--prompt", "a", "--drafter", "{name: mixture, drafters: [{}]}"], "drafter.drafters[0].name: missing"),
        (["--prompt", "a", "--drafter", "2026-13-45"], "column 1: month must be in 1..12"),
        (["--prompt", "a", "--drafter", "{name: draft_model, model: x, children: y}"], "found 'y'"),
        (["--prompt", "a", "--drafter", "suffix_lookup", "--verification", "token"], "use traversal or recursive"),
        (["--prompt", "a", "--prompt-lookup", "--schedule", "{name: aimd, floor: 9, cap: 2}"], "cap (2) must not be"),
        (["--prompt", "a", "--prompt-lookup", "--schedule", "optimal_tree"], "optimal_tree sizes trees"),
        (["--prompt", "a", "--prompt-lookup", "--verification", "blok"], "unknown value 'blok'; known: block"),
        (["--prompt", "a", "--press", "knorm", "--ratio", "nan"], "press.compression_ratio: must be a finite number"),
        (["--prompt", "a", "--press", "kvzip"], "press 'kvzip' cannot run here"),
        (["--prompt", "a", "--press", "{name: streaming_llm, n_sink: -3}"], "n_sink: must be at least 0, found -3"),
        (
            ["--prompt", "abc" * 9, "--press", "{name: lagkv, n_sink: 0, lag_size: 0}", "--ratio", "0.5"],
            "LagKVPress cannot compress a cache of 27 slots after 27 tokens: integer division or modulo by zero",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(folders, capsys, arguments, said):
    status, out, error = run(folders, capsys, *arguments, draft=False)
    assert (status, out, error.count("\n")) == (2, "", 1), error
    assert said in error


def test_a_file_of_questions_is_played_turn_by_turn(folders, capsys, tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text('{"category": "c", "turns": ["One", "Two"]}\n{"prompt": "Three"}\n{"prompt": "Four"}\n')
    out = texts(folders, capsys, "--prompt-file", str(path), "--prompts", "2")
    assert [line for line in out.splitlines() if line.startswith("---")] == [
        "--- c 1, turn 1", "--- c 1, turn 2", "--- prompt 2, turn 1",
    ]  # fmt: skip
    alone = texts(folders, capsys, "--prompt", "Three").splitlines()[:-2]
    assert out.split("--- prompt 2, turn 1\n")[1].splitlines()[:-2] == alone


def test_a_question_that_is_too_long_is_refused_before_the_first_is_answered(folders, capsys, tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text('{"prompt": "One"}\n' + json.dumps({"prompt": "x" * 10**5}) + "\n")
    status, out, error = run(folders, capsys, "--prompt-file", str(path), draft=False)
    assert (status, out) == (2, "")
    assert "prompt 2: a prompt of 100000 tokens" in error


def test_compare_duels_with_the_baseline_and_says_the_interval(folders, capsys):
    out = texts(folders, capsys, "--prompt", "The river " * 4, "--prompt-lookup", "--compare")
    found = re.fullmatch(r"speed-up over plain decoding on this prompt: (.+) \[(.+), (.+)\]", out.splitlines()[-1])
    value, low, high = map(float, found.groups())
    assert low <= value <= high
    out = texts(folders, capsys, "--prompt", "The river", "--max-new-tokens", "1", "--compare")
    assert out.splitlines()[-1] == "no speed-up: every text ended after its first token"
