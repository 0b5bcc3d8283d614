"""A pair of one tokenizer whose vocabularies are padded differently: common tokens are one law, padding has none."""

import dataclasses

import pytest
import tiny
import torch

from specpress import SamplingParams, generate, load_model, perplexity
from specpress.decoding.uncached import generate_uncached
from specpress.drafters import Cascade, DraftModel, PromptLookup
from specpress.models.build import random_model
from specpress.models.byte_level import byte_tokenizer
from specpress.models.save import save_model
from specpress.models.vocabulary import Vocabulary, know_tokens

GREEDY = SamplingParams(temperature=0)
SIZES = (257, 320, 384)  # of one tokenizer of 257 tokens
PROMPT = tiny.prompt(20)


def model_of(rows, *, layers=2, seed=0, family="llama", known=True):
    """A model with `rows` rows of logits, whose padding would be the most likely by far."""
    model = tiny.FAMILIES[family](layers, seed=seed, vocabulary=rows)
    with torch.no_grad():
        model.get_output_embeddings().weight[257:] = 50 * model.get_output_embeddings().weight[: rows - 257].abs()
    return know_tokens(model, Vocabulary.of(byte_tokenizer().get_vocab())) if known else model


def cut(model):
    """The same model without its padding: the oracle."""
    cut = type(model)(type(model.config)(**{**model.config.to_dict(), "vocab_size": 257}))
    weights = {name: w[:257] if w.shape[0] == model.config.vocab_size else w for name, w in model.state_dict().items()}
    cut.load_state_dict(weights)
    return cut.eval()


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(seed=3)])
@pytest.mark.parametrize("target", SIZES)
@pytest.mark.parametrize("draft", SIZES)
def test_any_two_decode_together_as_without_padding(family, sampling, target, draft):
    big, small = model_of(target, family=family), model_of(draft, layers=1, seed=1, family=family)
    padded = generate(big, PROMPT, max_new_tokens=24, sampling=sampling, drafter=DraftModel(small))
    oracle = generate(cut(big), PROMPT, max_new_tokens=24, sampling=sampling, drafter=DraftModel(cut(small)))
    assert padded.tokens.tolist() == oracle.tokens.tolist()
    assert padded.tokens.max() < 257


@pytest.mark.parametrize("target", SIZES[1:])
def test_padding_has_no_mass_in_any_way_of_decoding(target):
    big, middle, small = model_of(target), model_of(384, layers=1, seed=1), model_of(320, layers=1, seed=2)
    batch = tiny.prompt(20, batch=3)
    for decode in (
        lambda m, d, s: generate(m, PROMPT, max_new_tokens=24).tokens,
        lambda m, d, s: generate(m, batch, max_new_tokens=24).tokens,
        lambda m, d, s: generate(m, batch, max_new_tokens=24, drafter=DraftModel(s)).tokens,
        lambda m, d, s: generate(m, PROMPT, max_new_tokens=24, drafter=Cascade(d, DraftModel(s))).tokens,
        lambda m, d, s: generate(m, batch, max_new_tokens=24, drafter=Cascade(d, DraftModel(s))).tokens,
        lambda m, d, s: generate(m, batch, max_new_tokens=24, drafter=PromptLookup()).tokens,
        lambda m, d, s: generate_uncached(m, PROMPT, max_new_tokens=24, drafter_model=s).tokens,
        lambda m, d, s: torch.tensor(perplexity(m, batch, context=8).nll),
    ):
        torch.testing.assert_close(decode(big, middle, small), decode(cut(big), cut(middle), cut(small)))


def test_models_that_came_without_a_tokenizer_share_the_smaller_vocabulary():
    big, small = model_of(384, known=False), model_of(320, layers=1, seed=1, known=False)
    for target, draft in ((big, small), (small, big)):
        together = generate(target, PROMPT, max_new_tokens=24, sampling=GREEDY, drafter=DraftModel(draft)).tokens
        assert together.max() < 320
        assert getattr(target, "token_count", None) is None
    assert generate(big, PROMPT, max_new_tokens=24, sampling=GREEDY).tokens.max() >= 320


def test_sizes_that_no_padding_makes_are_refused():
    with pytest.raises(ValueError, match="vocabulary of 50 tokens, the target one of 48"):
        generate(tiny.llama(), PROMPT, max_new_tokens=2, drafter=DraftModel(tiny.llama(1, vocabulary=50)))


def test_another_tokenizer_of_the_same_size_is_refused_by_its_first_token():
    other = byte_tokenizer().get_vocab()
    swapped = {**other, "A": other["B"], "B": other["A"]}
    big, small = model_of(320), model_of(320, layers=1)
    small.vocabulary = Vocabulary.of(swapped)
    message = "another tokenizer than the target: token 65 is 'B' there and 'A' here"
    for drafter in (DraftModel(small), Cascade(small, PromptLookup())):
        with pytest.raises(ValueError, match=message):
            generate(big, PROMPT, max_new_tokens=2, drafter=drafter)
    small.vocabulary = Vocabulary.of({token: number for token, number in other.items() if number < 200})
    with pytest.raises(ValueError, match="it has 200 tokens there and 257 here"):
        generate(big, PROMPT, max_new_tokens=2, drafter=DraftModel(small))


def test_a_prompt_that_the_draft_has_no_embedding_for_is_refused():
    big, small = model_of(384), model_of(320, layers=1)
    with pytest.raises(ValueError, match="integers from 0 to 319, the draft model's vocabulary"):
        generate(big, torch.tensor([[5, 350]]), max_new_tokens=2, drafter=DraftModel(small))


def test_a_loaded_model_knows_its_tokens(tmp_path):
    source = {"kind": "random", "architecture": "llama", "hidden_size": 16, "layers": 1, "heads": 2, "seed": 0}
    model, tokenizer = random_model(source)
    model.resize_token_embeddings(320)
    save_model(model, tokenizer, tmp_path / "padded", {})
    loaded, _ = load_model(tmp_path / "padded", device="cpu")
    assert (loaded.config.vocab_size, loaded.token_count, len(loaded.vocabulary)) == (320, 257, 257)
    assert loaded.vocabulary == Vocabulary.of(tokenizer.get_vocab())
    assert "token_count" not in loaded.config.to_dict()


def test_vocabularies_are_equal_token_by_token():
    numbers = {"a": 0, "b": 1, "c": 4}
    assert Vocabulary.of(numbers) == Vocabulary.of(dict(reversed(numbers.items())))
    assert len(Vocabulary.of(numbers)) == 5
    assert Vocabulary.of(numbers).tokens == ("a", "b", None, None, "c")
    for other in ({**numbers, "d": 3}, {"a": 1, "b": 0, "c": 4}, {"a": 0, "b": 1}, {}):
        assert Vocabulary.of(numbers) != Vocabulary.of(other)
    assert dataclasses.is_dataclass(Vocabulary)
