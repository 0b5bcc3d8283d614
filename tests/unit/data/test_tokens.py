"""Texts that are read many at once have the tokens that each has by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from specpress.data.tokens import in_tokens
from specpress.models.byte_level import byte_tokenizer

WORDS = {"<s>": 0, "a": 1, "b": 2, "ab": 3, "Ġ": 4, "Ġa": 5, "<e>": 6, "c": 7}


def merging():
    """A byte-level BPE that begins a text with <s>, knows <e> as a special token and would cut and pad texts."""
    inner = Tokenizer(models.BPE(WORDS, [("a", "b"), ("Ġ", "a")], unk_token="<s>"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    inner.enable_truncation(3)
    inner.enable_padding(length=9)
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="<e>")


class Own(PreTrainedTokenizerFast):
    """One of a model that does more than the library's."""

    def _encode_plus(self, text, **options):
        return super()._encode_plus(text.upper(), **options)


TOKENIZERS = {"bytes": byte_tokenizer(), "merges": merging(), "own": Own(tokenizer_object=byte_tokenizer()._tokenizer)}


@pytest.mark.parametrize("name", TOKENIZERS)
@given(texts=st.lists(st.text("abc <e>\n", max_size=20), max_size=7), at_once=st.integers(1, 4))
def test_they_are_those_of_each_text(name, texts, at_once):
    tokenizer = TOKENIZERS[name]
    found = list(in_tokens(texts, tokenizer, at_once))
    assert found == [tokenizer.encode(text, add_special_tokens=False) for text in texts]


def test_a_truncation_that_is_set_cuts_none():
    assert list(in_tokens(["a b ab c ab", "c"], merging())) == [[1, 4, 2, 4, 3, 4, 7, 4, 3], [7]]


def test_no_more_texts_are_read_than_a_few_at_a_time():
    read = []
    texts = (read.append(i) or "a text" for i in range(100))
    found = in_tokens(texts, TOKENIZERS["bytes"], 4)
    assert not read
    next(found)
    assert len(read) == 4
