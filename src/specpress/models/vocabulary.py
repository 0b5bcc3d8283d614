"""The tokens that a model's numbers stand for: whether two models number the same ones, and which numbers are padding.

Vocabularies are padded to sizes that suit the hardware: the models of one tokenizer, Pythia's 50277 tokens, have 50304,
50432 and 50688 rows of logits. Rows beyond the tokenizer's stand for nothing: they get no mass.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

_PADDING = 8  # vocabularies are padded to multiples of 8 at least


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """`tokens` by number, None where a tokenizer leaves a number out. Equal if all tokens are."""

    tokens: tuple[str | None, ...]
    digest: str

    @classmethod
    def of(cls, numbers: dict[str, int]) -> "Vocabulary":
        """From a tokenizer's `get_vocab()`, {token: number}."""
        by_number = {number: token for token, number in numbers.items()}
        tokens = tuple(map(by_number.get, range(1 + max(by_number, default=-1))))
        text = "\n".join(f"{number} {token}" for number, token in sorted(by_number.items()))
        return cls(tokens, hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())

    def __len__(self) -> int:
        return len(self.tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def difference(self, other: "Vocabulary", there: str = "there", here: str = "here") -> str:
        """The first difference, in words: what it is there, in `other`, and here, in this one."""
        for number, (ours, theirs) in enumerate(zip(self.tokens, other.tokens, strict=False)):
            if ours != theirs:
                return f"token {number} is {theirs!r} {there} and {ours!r} {here}"
        return f"it has {len(other)} tokens {there} and {len(self)} {here}"


def know_tokens(model: nn.Module, vocabulary: Vocabulary | None) -> nn.Module:
    """Give a model the tokens of its tokenizer: `vocabulary`, and `token_count`, the rows of logits that count.

    `token_count` is None where all do, as they do for a head over part of the vocabulary.
    """
    model.vocabulary = vocabulary
    padded = model.vocabulary is not None and len(model.vocabulary) < model.config.vocab_size
    model.token_count = len(model.vocabulary) if padded and not has_part_head(model) else None
    return model


def has_part_head(model: nn.Module) -> bool:
    """Whether a model's output head covers part of its vocabulary: see `specpress.models.load.load_model`."""
    return getattr(model, "head_token_ids", None) is not None


def without_padding(logits: Tensor, model: nn.Module) -> Tensor:
    """The logits, (..., rows of the output head), of tokens; those of padding are cut off. A view, no copy."""
    count = getattr(model, "token_count", None)
    return logits if count is None else logits[..., :count]


def tokens_of(model: nn.Module) -> int:
    """The numbers of a model that stand for tokens, as far as is known."""
    known = getattr(model, "vocabulary", None)
    return min(model.config.vocab_size, model.config.vocab_size if known is None else len(known))


def common_tokens(target: nn.Module, draft: nn.Module) -> int:
    """The tokens that two models share: those of their one tokenizer.

    Of models that came without one, built or loaded by other means, the sizes are compared: two are taken for one
    vocabulary if they are equal, or if the larger may be a padded one, a multiple of 8.

    Raises
    ------
    ValueError
        If they are not of one tokenizer.
    """
    ours, theirs = getattr(target, "vocabulary", None), getattr(draft, "vocabulary", None)
    if ours is not None and theirs is not None and ours != theirs:
        raise ValueError(
            f"the draft model has another tokenizer than the target: {ours.difference(theirs)} (there: the draft; "
            f"here: the target). {_ONE_TOKENIZER}"
        )
    sizes = tokens_of(target), tokens_of(draft)
    if not may_be_padded(*sizes):
        raise ValueError(
            f"the draft model has a vocabulary of {sizes[1]} tokens, the target one of {sizes[0]}: {_ONE_TOKENIZER}"
        )
    return min(sizes)


def may_be_padded(one: int, other: int) -> bool:
    """Whether vocabularies of these sizes can be one, padded differently: equal, or the larger a multiple of 8."""
    return one == other or max(one, other) % _PADDING == 0


_ONE_TOKENIZER = (
    "speculative decoding needs one tokenizer and vocabulary for both; take a draft of the target's family or train "
    "one from it"
)


@contextmanager
def one_vocabulary(target: nn.Module, *drafts: nn.Module) -> Iterator[int]:
    """Inside the block no model has mass beyond the tokens that all share; yields how many those are.

    Raises ValueError as `common_tokens` does.
    """
    count = min([tokens_of(target), *(common_tokens(target, draft) for draft in drafts)])
    full = {id(m): m for m in (target, *drafts) if not has_part_head(m)}.values()
    before = [getattr(model, "token_count", None) for model in full]
    try:
        for model in full:
            model.token_count = count if count < model.config.vocab_size else None
        yield count
    finally:
        for model, known in zip(full, before, strict=True):
            model.token_count = known
