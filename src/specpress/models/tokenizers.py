"""The tokenizer of a model's directory, read once for all directories that hold the same one.

A target and its draft have one tokenizer, of megabytes that take half a second to read.
"""

import hashlib
import json
import warnings
from pathlib import Path

from transformers import AutoTokenizer

from specpress.models.config import first_line
from specpress.models.vocabulary import Vocabulary

_TOKENS = ("tokenizer.json", "vocab.json")
_FILES = (*_TOKENS, "tokenizer_config.json")
_PIECES = "tokenizer.model"
_BESIDE = (_PIECES, "merges.txt", "added_tokens.json", "special_tokens_map.json", "chat_template.jinja")
_NO_MATTER = ("is_local", "name_or_path")  # of tokenizer_config.json: where a tokenizer was read from


def holds_tokenizer(directory: Path) -> bool:
    """Whether a model's directory has a file of a tokenizer."""
    return any((directory / name).is_file() for name in _FILES)


def has_tokens(directory: Path) -> bool:
    """Whether it has the tokens of one, in a file that is read here."""
    return any((directory / name).is_file() for name in _TOKENS)


def check_tokenizer(directory: Path) -> None:
    """Raise ValueError for a directory whose tokenizer is of a kind that nothing here reads."""
    if (directory / _PIECES).is_file() and not has_tokens(directory):
        raise ValueError(
            f"{directory} holds its tokenizer as {_PIECES} alone, which is not read here; where sentencepiece is "
            "installed, AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes tokenizer.json beside it"
        )


def ends_of_text(model, tokenizer) -> tuple[int, ...] | None:
    """The tokens that a text of a model ends with; None if there are none.

    Chat models have several: that of the tokenizer, and those of generation_config.json, of which one ends an answer
    (Phi-3's <|end|>) and another a text.
    """
    found = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = {tokenizer.eos_token_id, *(found if isinstance(found, list | tuple) else [found])}
    return tuple(sorted(end for end in ends if end is not None)) or None


class Tokenizers:
    """Those that have been read, each with its vocabulary, by what their files say; who changes one changes all."""

    def __init__(self):
        self._read: dict[str, tuple] = {}

    def of(self, directory: Path, model_type: str) -> tuple:
        """Tokenizer and `Vocabulary` of a model's directory; None and None, with a warning, if it holds no tokenizer.

        model_type : what config.json calls the model, by which transformers may choose the tokenizer's class

        Raises
        ------
        ValueError
            If its files cannot be read.
        """
        check_tokenizer(directory)
        if not holds_tokenizer(directory):
            warnings.warn(f"{directory} holds no tokenizer; load_model returns None for it", stacklevel=4)
            return None, None
        key = _content(directory, model_type)
        if key not in self._read:
            tokenizer = _load(directory)
            self._read[key] = tokenizer, Vocabulary.of(tokenizer.get_vocab())
        return self._read[key]


def _content(directory: Path, model_type: str) -> str:
    """A digest of all that a tokenizer is made of."""
    found = {path: path.read_bytes() for path in map(directory.joinpath, _FILES + _BESIDE) if path.is_file()}
    digest = hashlib.sha256(model_type.encode())
    for path, content in found.items():
        if path.name == "tokenizer_config.json":
            content = _settings(content)
        digest.update(f"\n{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _settings(content: bytes) -> bytes:
    """tokenizer_config.json without what depends on its place; as it is, if it is no such file."""
    try:
        settings = json.loads(content)
        return json.dumps({key: value for key, value in settings.items() if key not in _NO_MATTER}).encode()
    except (ValueError, AttributeError):
        return content


def _load(directory: Path):
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory)
        tokenizer.encode("a text")  # some files that lack something are read without a word
        return tokenizer
    except Exception as error:  # tokenizers raises plain ones
        said = f"the tokenizer of {directory} cannot be read ({first_line(error)}): get its files again"
        raise ValueError(said) from error
