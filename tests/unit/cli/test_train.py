"""`specpress train` as a user sees it: a text file, a model, a head that drafts for it."""

import json
import shutil

import pytest
from stories import make_documents, make_target

from specpress.cli.main import main
from specpress.models.save import save_model

SMALL = ("tokens=1024", "sequence=32", "vocabulary=64", "evaluation=128")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A target, and stories in a text file."""
    root = tmp_path_factory.mktemp("train")
    save_model(*make_target("llama"), root / "target", {})
    (root / "stories.txt").write_text("\n\n".join(document.text for document in make_documents(60)))
    return root


def train(place, *settings, data="stories.txt", output="head"):
    arguments = [x for setting in (*SMALL, *settings) for x in ("--set", setting)]
    paths = ["--target", str(place / "target"), "--data", str(place / data), "--output", str(place / output)]
    return main(["train", *paths, "--threads", "1", "--device", "cpu", *arguments])


def test_a_head_is_trained_from_a_text_file_and_drafts(place, capsys):
    assert train(place, "kind=head", "objective={forward_kl: 1, acceptance: 0.5}") == 0
    out = capsys.readouterr().out
    assert "stories: acceptance 0." in out
    assert "FeatureHead(load_model(" in out
    assert json.loads((place / "head" / "metrics.json").read_text())["spec"]["objective"]["acceptance"] == 0.5
    paths = ["--model", str(place / "target"), "--draft", str(place / "head")]
    assert main(["generate", *paths, "--prompt", "the cat", "--max-new-tokens", "8"]) == 0
    assert "accepted" in capsys.readouterr().out
    prepared = str((place / "head" / "text" / "stories").relative_to(place))
    assert train(place, "layers=1", data=prepared, output="draft") == 0
    assert "DraftModel" in capsys.readouterr().out


def test_a_text_shorter_than_two_documents_trains_as_well(place):
    (place / "short.txt").write_text("\n\n".join(document.text for document in make_documents(60))[:15_000])
    assert train(place, "layers=1", "tokens=64", "sequence=16", "evaluation=16", data="short.txt", output="short") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "{place}"], "config.json"),
        (["--target", "{place}/bare"], "{place}/bare holds no tokenizer"),
        (["--threads", "0"], "argument --threads: must be a whole number from 1 on, got '0'"),
        (["--threads", "99999999"], "threads must be from 1 to"),
        (["--device", "nowhere"], "unknown device 'nowhere'"),
    ],
)
def test_what_needs_no_text_to_be_refused_is_refused_before_one_is_read(place, capsys, arguments, message):
    shutil.copytree(place / "target", place / "bare", ignore=shutil.ignore_patterns("token*"), dirs_exist_ok=True)
    paths = ["--target", str(place / "target"), "--data", str(place / "stories.txt"), "--output", str(place / "no")]
    settings = [x for setting in (*SMALL, "layers=1") for x in ("--set", setting)]
    given = [argument.format(place=place) for argument in arguments]
    assert main(["train", *paths, *settings, *given]) == 2
    error = capsys.readouterr().err
    assert message.format(place=place) in error
    assert error.startswith("specpress: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "data", "message"),
    [
        (["kind"], "stories.txt", "expected KEY=VALUE, got 'kind'"),
        (["kind=[1"], "stories.txt", "is not YAML"),
        (["layer=1"], "stories.txt", "unknown key layer; a draft has"),
        (["layers=9"], "stories.txt", "layers: 9 asked for, the target has"),
        ([], "nothing.txt", "nothing.txt is not there"),
        ([], "target", "holds no dataset_dict.json"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(place, capsys, settings, data, message):
    assert train(place, *settings, data=data, output="refused") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
