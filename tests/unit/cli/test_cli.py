"""`specpress generate` and `specpress list` as a user sees them."""

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
    ],
)
def test_mistakes_are_one_line_and_no_traceback(folders, capsys, arguments, said):
    status, out, error = run(folders, capsys, *arguments)
    assert status == 2
    assert out == ""
    assert error.startswith("specpress: ")
    assert error.count("\n") == 1
    assert said in error


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
