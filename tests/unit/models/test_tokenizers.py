"""Models of one tokenizer share it where they may; those of others, and by default all, have their own."""

import json
import shutil

import pytest
from transformers import GenerationConfig

from specpress import load_model
from specpress.models.build import build_model, random_model
from specpress.models.load import load_with
from specpress.models.save import save_model
from specpress.models.tokenizers import Tokenizers, ends_of_text

SOURCE = {"architecture": "llama", "hidden_size": 32, "layers": 1, "heads": 2, "seed": 0}


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "target"
    save_model(*random_model(SOURCE), folder, {})
    return folder


def copied(folder, to, **changes):
    """The same model elsewhere, with other settings of its tokenizer."""
    shutil.copytree(folder, to)
    settings = to / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | changes))
    return to


def test_a_tokenizer_is_read_once_wherever_it_lies(target, tmp_path):
    tokenizers = Tokenizers()
    model, tokenizer = load_with(tokenizers, target, device="cpu")
    draft, same = load_with(tokenizers, copied(target, tmp_path / "draft", is_local=True), device="cpu")
    assert same is tokenizer
    assert draft.vocabulary is model.vocabulary


@pytest.mark.parametrize("changes", [{"eos_token": "a"}, {"model_max_length": 77}], ids=["end", "length"])
def test_a_tokenizer_that_differs_is_another(target, tmp_path, changes):
    tokenizers = Tokenizers()
    _, tokenizer = load_with(tokenizers, target, device="cpu")
    _, other = load_with(tokenizers, copied(target, tmp_path / "other", **changes), device="cpu")
    assert {key: getattr(other, key) for key in changes} == changes
    assert all(getattr(tokenizer, key) != value for key, value in changes.items())


def test_a_tokenizer_of_another_vocabulary_is_another(target, tmp_path):
    other = copied(target, tmp_path / "other")
    spoken = json.loads((other / "tokenizer.json").read_text())
    vocabulary = spoken["model"]["vocab"]
    one, two = list(vocabulary)[:2]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    (other / "tokenizer.json").write_text(json.dumps(spoken))
    tokenizers = Tokenizers()
    models = [load_with(tokenizers, folder, device="cpu")[0] for folder in (target, other)]
    assert models[0].vocabulary != models[1].vocabulary


def test_by_default_a_model_has_its_own(target):
    (one, first), (two, second) = (load_model(target, device="cpu") for _ in range(2))
    assert first is not second
    assert one.vocabulary == two.vocabulary


def test_a_model_that_is_filled_from_a_file_is_the_one_that_was_first_drawn_at_random(tmp_path):
    """The tied head and the buffers that no file holds, too."""
    config = random_model(SOURCE)[0].config
    config.feature_layers, config.head_token_ids, config.tie_word_embeddings = [1], [0, 3, 5, 256], False
    drawn = build_model(config)
    save_model(drawn, None, tmp_path / "head", {})
    with pytest.warns(UserWarning, match="no tokenizer"):
        loaded, _ = load_model(tmp_path / "head", device="cpu")
    ours, theirs = (dict(m.named_buffers()) | m.state_dict() for m in (drawn, loaded))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)


def test_a_text_ends_with_any_of_a_models_ends(target):
    model, tokenizer = load_model(target, device="cpu")
    end = tokenizer.eos_token_id
    for given, ends in ((None, (end,)), (3, (3, end)), ([5, 3], (3, 5, end))):
        model.generation_config.eos_token_id = given
        assert ends_of_text(model, tokenizer) == ends


def test_pieces_alone_are_refused_with_what_to_do(target, tmp_path):
    other = copied(target, tmp_path / "other")
    (other / "tokenizer.json").rename(other / "tokenizer.model")
    with pytest.raises(ValueError, match=r"as tokenizer\.model alone, which is not read here.*writes tokenizer\.json"):
        load_model(other, device="cpu")


def test_of_how_its_authors_generate_a_model_keeps_where_a_text_ends(tmp_path):
    """Settings of sampling without do_sample, which transformers reads and does not save."""
    model, tokenizer = random_model(SOURCE)
    model.generation_config = GenerationConfig(eos_token_id=[1, 2], temperature=0.5, top_p=0.6, pad_token_id=-1)
    save_model(model, tokenizer, tmp_path / "saved", {})
    kept = load_model(tmp_path / "saved", device="cpu")[0].generation_config
    assert (kept.eos_token_id, kept.temperature, kept.pad_token_id) == ([1, 2], GenerationConfig().temperature, None)
