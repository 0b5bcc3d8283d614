"""`specpress new`: a study of a model of every family that can be run as it is written, or a reason why not."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import Gemma3TextConfig

from specpress.cli.main import main
from specpress.data.readers import read
from specpress.models.build import random_model
from specpress.models.families import FAMILIES
from specpress.models.save import save_model
from specpress.study.load import read_study
from specpress.study.registry import DRAFTERS

ROOT = Path(__file__).parents[3]
TEXT = ROOT / "tests" / "data" / "logbook.txt"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A directory of a tiny model of each family."""
    root = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        source = {"architecture": family, "hidden_size": 32, "layers": 2, "heads": 2, "seed": 0}
        save_model(*random_model(source, dtype=torch.float32), root / family, {})
    return root


def new(*arguments, capsys):
    status = main(["new", *map(str, arguments)])
    out, error = capsys.readouterr()
    return status, out.strip(), error


@pytest.mark.parametrize("family", FAMILIES)
def test_a_study_of_a_model_of_every_family_is_one(folders, tmp_path, capsys, family):
    status, out, _ = new(folders / family, "--text", TEXT, "--output", tmp_path / "mine.yaml", capsys=capsys)
    assert (status, out) == (0, str(tmp_path / "mine.yaml"))
    study = read_study(tmp_path / "mine.yaml")
    assert study.name == family.replace("_", "-")
    assert study.models["target"]["source"] == {"kind": "path", "path": str(folders / family)}
    assert study.data["text"]["source"]["path"] == "tests/data/logbook.txt"
    drafted = {spec["drafter"]["name"] for spec in study.experiments.values() if "drafter" in spec}
    assert {"prompt_lookup", "compressed_target"} <= drafted
    assert drafted <= DRAFTERS.keys() - {"draft_model", "cascade"}
    assert {spec["kind"] for spec in study.experiments.values()} >= {"speed", "perplexity"}


def test_a_draft_is_measured_at_several_gammas(folders, tmp_path, capsys):
    options = ["--draft", folders / "llama", "--output", tmp_path / "mine.yaml"]
    assert new(folders / "llama", *options, capsys=capsys)[0] == 0
    study = read_study(tmp_path / "mine.yaml")
    gammas = {
        spec["schedule"].get("gamma")
        for spec in study.experiments.values()
        if spec.get("drafter", {}).get("name") == "draft_model"
    }
    assert {1, 2, 4} <= gammas


def test_without_a_text_it_reads_those_of_the_embedded_study(folders, tmp_path, capsys):
    new(folders / "llama", "--output", tmp_path / "mine.yaml", capsys=capsys)
    embedded = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["data"]
    written = read_study(tmp_path / "mine.yaml").data
    assert {"wikipedia", "bible"} <= written.keys() <= embedded.keys()
    assert all(entry["source"] == embedded[name]["source"] for name, entry in written.items())


def edited(folder, tmp_path, **changes):
    """A copy of a model's folder whose config.json says something else."""
    copy = Path(shutil.copytree(folder, tmp_path / "edited"))
    config = json.loads((copy / "config.json").read_text()) | changes
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def test_texts_stay_within_a_window_of_attention(folders, tmp_path, capsys):
    folder = edited(folders / "mistral", tmp_path, sliding_window=200)
    new(folder, "--text", TEXT, "--output", tmp_path / "mine.yaml", capsys=capsys)
    for spec in read_study(tmp_path / "mine.yaml").experiments.values():
        assert spec.get("prompt_tokens", 0) + spec.get("max_new_tokens", 0) <= 200
        assert spec.get("context", 0) + spec.get("score", 0) <= 200


def test_a_short_text_is_made_documents_that_can_be_split(folders, tmp_path, capsys):
    text, file = tmp_path / "short.txt", tmp_path / "mine.yaml"
    text.write_text("\n\n".join(f"Paragraph {n}." for n in range(200)))
    assert new(folders / "llama", "--text", text, "--output", file, capsys=capsys)[0] == 0
    characters = read_study(file).data["text"]["document_characters"]
    assert len(read("text", text, document_characters=characters)) >= 4


def test_a_study_that_is_there_is_not_written_over(folders, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    assert new(folders / "llama", "--output", file, capsys=capsys)[0] == 0
    file.write_text(mine := file.read_text() + "# mine\n")
    status, _, error = new(folders / "llama", "--output", file, capsys=capsys)
    assert (status, "is there already" in error) == (2, True)
    assert new(folders / "llama", "--output", file, "--keep", capsys=capsys)[:2] == (0, str(file))
    assert file.read_text() == mine
    assert new(folders / "llama", "--output", tmp_path, "--keep", capsys=capsys)[0] == 2


@pytest.mark.parametrize("content", [None, "a: 1\n", "[]\n", "models: {a: [], b: {source: 3}}\n"])
def test_a_study_of_other_models_is_not_taken_for_one_of_these(folders, tmp_path, capsys, content):
    file = tmp_path / "llama.yaml"
    assert new(folders / "llama", "--output", file, capsys=capsys)[0] == 0
    if content is not None:
        file.write_text(content)
    (tmp_path / "mine.txt").write_text("a")
    other = shutil.copytree(folders / "llama", tmp_path / "elsewhere/llama")
    given = [[other], [folders / "llama", "--draft", other], [folders / "llama", "--text", tmp_path / "mine.txt"]]
    for arguments in given if content is None else [[folders / "llama"]]:
        status, _, error = new(*arguments, "--output", file, "--keep", capsys=capsys)
        assert status == 2
        assert f"{file} is there already and says nothing of {arguments[-1]}: to run it as it is, make" in error
        assert error.count("\n") == 1


def test_what_cannot_be_studied_is_refused_with_the_reason(folders, tmp_path, capsys):
    bare = Path(shutil.copytree(folders / "llama", tmp_path / "bare"))
    (bare / "tokenizer.json").unlink()
    unweighted = Path(shutil.copytree(folders / "llama", tmp_path / "unweighted"))
    (unweighted / "model.safetensors").unlink()
    gemma = Path(shutil.copytree(folders / "llama", tmp_path / "gemma"))
    Gemma3TextConfig().save_pretrained(gemma)
    (tmp_path / "latin.txt").write_bytes("Café\n\nCafé\n".encode("latin-1"))
    (tmp_path / "one.txt").write_text("One paragraph. " * 999)
    (tmp_path / "empty.txt").touch()
    short = edited(folders / "llama", tmp_path, max_position_embeddings=32)
    for arguments, said in (
        (["nowhere"], "nowhere is neither a folder here nor a repository of a hub"),
        ([tmp_path], "holds no config.json: give the folder of a model"),
        ([bare], "holds no tokenizer"),
        ([unweighted], "holds no weights as *.safetensors"),
        ([gemma], "'gemma3_text' is not supported: windows alternate"),
        ([short], "context of 32 tokens is too short for a study"),
        ([folders / "llama", "--draft", "nowhere"], "nowhere is neither a folder"),
        ([folders / "llama", "--text", "nowhere.txt"], "nowhere.txt is not a file"),
        ([folders / "llama", "--text", tmp_path / "latin.txt"], "latin.txt is not UTF-8 (byte 3)"),
        ([folders / "llama", "--text", tmp_path / "one.txt"], "one.txt: 1 document cannot be split"),
        ([folders / "llama", "--text", tmp_path / "empty.txt"], "empty.txt holds no document"),
        ([folders / "llama", "--name", "Mine!"], "lower-case letters, digits, hyphens"),
    ):
        status, _, error = new(*arguments, "--output", tmp_path / "none.yaml", capsys=capsys)
        assert status == 2, arguments
        assert said in error
        assert not (tmp_path / "none.yaml").exists()
