"""`specpress generate` and `specpress list` as a user sees them."""

import io
import json
import shutil

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
    assert all(text("--schedule", name) == plain for name in SCHEDULES)
    assert text("--prompt-lookup", "--verification", "block", draft=False) == plain


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt", ""], "the prompt is empty"),
        (["--prompt", "a", "--gamma", "0"], "gamma must be at least 1"),
        (["--prompt", "a", "--gamma", "3", "--schedule", "aimd"], "--gamma is for the constant schedule"),
        (["--prompt", "a", "--top-p", "2"], "top_p must lie in"),
        (["--prompt", "a", "--temperature", "-1"], "temperature must be"),
        (["--prompt", "a", "--prompt-lookup"], "exclude each other"),
        (["--prompt", "a", "--max-new-tokens", "0"], "max_new_tokens must be at least 1"),
        (["--prompt", "a", "--model", "nowhere"], "nowhere is not a directory"),
        (["--prompt", "a", "--draft", "nowhere"], "nowhere is not a directory"),
        (["--prompt", "a", "--threads", "0"], "argument --threads: must be a whole number from 1 on, got '0'; see"),
        (["--prompt", "a", "--threads", "two"], "got 'two'"),
        (["--prompt", "a", "--max-new-tokens", "100000"], "ask for at most 2047 new ones"),
        (["--prompt", "a" * 3000], "shorten the prompt to 2036 tokens"),
        (["--prompt", "a\udcff"], "the prompt is not UTF-8 (at character 1)"),
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
