"""Documents, their split into train and test, and the passages that experiments read."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specpress.data.tokens import AT_ONCE, in_tokens


@dataclass(frozen=True)
class Document:
    """A text with a name; `id` is unique in its data set and decides which half it belongs to."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Passage:
    """Consecutive tokens of a document: its title, where they start (in tokens), the tokens."""

    document: str
    offset: int
    tokens: list[int]


def split_documents(documents: list[Document], test_fraction: float) -> tuple[list[Document], list[Document]]:
    """Split into (train, test) by document: a document's half depends on its id alone.

    Adding or removing documents moves no other one. The one exception keeps both halves usable: if all documents fall
    on one side, the one nearest to the border changes sides.

    Raises
    ------
    ValueError
        If the fraction is not between 0 and 1, or there are fewer than two documents.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction {test_fraction} must lie between 0 and 1")
    if len(documents) < 2:
        raise ValueError(
            f"{len(documents)} document cannot be split into train and test; at least 2 are needed. Give more text or, "
            "with the reader text, smaller documents (document_characters) of paragraphs, which blank lines separate"
        )
    places = {document.id: uniform("split", document.id) for document in documents}
    is_test = {identifier: place < test_fraction for identifier, place in places.items()}
    if len(set(is_test.values())) == 1:
        nearest = min(places, key=lambda identifier: abs(places[identifier] - test_fraction))
        is_test[nearest] = not is_test[nearest]
    train = [document for document in documents if not is_test[document.id]]
    return train, [document for document in documents if is_test[document.id]]


def sample_passages(
    documents: Sequence[Document],
    tokenizer,
    *,
    count: int,
    length: int,
    seed: int,
    least: int | None = None,
    opening: Sequence[int] = (),
) -> list[Passage]:
    """Draw passages that do not overlap, from as many documents as possible.

    The documents come in an order that `seed` decides; each gives one passage before any gives a second. A document
    is cut into pieces of `length` tokens from its start, and a passage is one of them.

    Parameters
    ----------
    documents : sequence of Document; if memory-mapped, only those that are drawn from are read
    tokenizer : PreTrainedTokenizerBase
        No special tokens are added.
    count, length : int
        Number of passages, and tokens in each.
    seed : int
    least : int, optional
        Take fewer, as many as there are, if they are so many at least; None: `count` of them.
    opening : sequence of int
        Tokens that every passage begins with, of its `length`; they are of no document.

    Returns
    -------
    list of Passage
        In the order drawn: the first ones stay the same when `count` grows.

    Raises
    ------
    ValueError
        If the documents hold fewer than `least` such pieces; the message says how many.
    """
    if count < 1 or length <= len(opening):
        raise ValueError(f"count ({count}) and length ({length}) must be at least 1 and {len(opening) + 1}")
    passages, size = [], length - len(opening)
    for document, tokens, piece in _pieces_in_turn(documents, tokenizer, size, seed, min(count, AT_ONCE)):
        offset = piece * size
        text = [*opening, *tokens[offset : offset + size]]
        passages.append(Passage(document.title or document.id, offset, text))
        if len(passages) == count:
            return passages
    if least is not None and len(passages) >= least:
        return passages
    raise ValueError(
        f"{least or count} passages of {length} tokens were asked for, but the {len(documents)} documents hold only "
        f"{len(passages)}; ask for fewer or shorter passages, or give more text"
    )


def _pieces_in_turn(
    documents: Sequence[Document], tokenizer, length: int, seed: int, at_once: int
) -> Iterator[tuple[Document, list[int], int]]:
    """(document, its tokens, number of the piece): one piece of every document, then a second of every one, ...

    at_once : documents that are read at a time
    """
    remaining = []
    ids = documents.ids if hasattr(documents, "ids") else [document.id for document in documents]
    order = sorted(range(len(ids)), key=lambda index: uniform(seed, ids[index]))
    texts = (documents[index].text for index in order)
    for index, tokens in zip(order, in_tokens(texts, tokenizer, at_once), strict=True):
        document = documents[index]
        pieces = sorted(range(len(tokens) // length), key=lambda piece: uniform(seed, document.id, piece))
        if pieces:
            yield document, tokens, pieces[0]
            remaining.append((document, tokens, pieces[1:]))
    while remaining:
        remaining = [turn for turn in remaining if turn[2]]
        for document, tokens, pieces in remaining:
            yield document, tokens, pieces.pop(0)


def uniform(*key) -> float:
    """A number in [0, 1) that depends on the key alone."""
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
