"""Byte-level BPE tokenizers built by hand: the one of a random model, and the one a GGUF file carries.

transformers' own conversion of a GGUF tokenizer takes SmolLM2's for a Llama one: it prepends <|im_start|>, ends texts
with it, adds tokens beyond the vocabulary and splits numbers differently.
"""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"

# GGUF's name of the text splitting -> the splitting
_SPLITTERS = {
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
}
_CONTROL, _USER_DEFINED = 3, 4  # GGUF token types


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte (the id is the byte), and <|endoftext|> as id 256: encodes any text, decodes it back."""
    vocabulary = {character: byte for byte, character in enumerate(_byte_characters())}
    tokenizer = _byte_level(vocabulary, [], pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def gguf_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """The byte-level tokenizer stored in a GGUF file. It adds no token of its own to a text.

    Raises
    ------
    ValueError
        If the file's tokenizer is of another kind.
    """
    fields = _gguf_fields(path)
    kind, splitter = fields.get("model"), fields.get("pre")
    if kind != "gpt2" or splitter not in _SPLITTERS or fields.get("add_bos_token"):
        raise ValueError(
            f"{Path(path).name}: tokenizer {kind!r} with text splitting {splitter!r} is not supported "
            f"(supported: 'gpt2' with {', '.join(sorted(_SPLITTERS))}); "
            "use a Hugging Face directory of the model with source kind path"
        )
    tokens = fields["tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["merges"]]
    tokenizer = _byte_level({token: i for i, token in enumerate(tokens)}, merges, _SPLITTERS[splitter]())
    types = fields["token_type"]
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True) for t, k in zip(tokens, types, strict=True) if k == _CONTROL]
    )
    tokenizer.add_tokens([AddedToken(t) for t, k in zip(tokens, types, strict=True) if k == _USER_DEFINED])
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    special = {name: tokens[fields[f"{key}_token_id"]] for name, key in names.items() if f"{key}_token_id" in fields}
    converted = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)
    converted.chat_template = fields.get("chat_template")
    return converted


def _byte_level(vocabulary: dict[str, int], merges: list[tuple[str, str]], splitter) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _byte_characters() -> list[str]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's table).

    Printable Latin-1 characters stand for themselves; the other bytes, in order, for the characters from U+0100 on.
    """
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    stand_in = dict(zip(shown, map(chr, shown), strict=True))
    stand_in |= {byte: chr(0x100 + i) for i, byte in enumerate(hidden)}
    return [stand_in[byte] for byte in range(256)]


def _gguf_fields(path: str | Path) -> dict:
    from gguf import GGUFReader

    prefixes = ("tokenizer.ggml.", "tokenizer.")
    fields = {}
    for name, field in GGUFReader(path).fields.items():
        for prefix in prefixes:
            if name.startswith(prefix):
                fields[name.removeprefix(prefix)] = field.contents()
                break
    return fields
