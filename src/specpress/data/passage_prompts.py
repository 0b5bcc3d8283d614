"""Prompts made from documents: summarise a passage, answer from a passage. What answers them copies from the prompt."""

import re
from collections.abc import Iterator, Sequence

from specpress.data.documents import Document, uniform
from specpress.data.questions import Question
from specpress.data.readers import ReaderError

SUMMARISE, ANSWER = "summarise", "answer"
SUMMARY, REPLY = "\n\nSummary:", "\n\nAnswer:"  # of texts to be continued, where no template says whose turn it is
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_LONG_SENTENCE = 60  # characters: of shorter ones there is little to copy


def passage_questions(
    documents: Sequence[Document], *, characters: int, count: int, chat: bool, seed: int = 0
) -> list[Question]:
    """`count` prompts of each of the two categories, each about another document.

    summarise : the passage, and the wish for a summary in the passage's own words
    answer : the passage, and the question what it says on a sentence whose beginning is given

    Parameters
    ----------
    documents : sequence of Document; those whose first paragraphs do not fill a passage are passed over
    characters : of a passage, about: it is whole sentences from a document's start
    chat : whether the model's chat template is to be applied
    seed : of the order of the documents

    Raises
    ------
    ReaderError
        If there are fewer such documents.
    """
    passages = list(_passages(documents, characters, seed, 2 * count))
    if len(passages) < 2 * count:
        raise ReaderError(
            f"{count} prompts of each kind need {2 * count} documents of {characters} characters of prose, but there "
            f"are {len(passages)}: ask for fewer (`count`) or shorter ones (`characters`)"
        )
    made = []
    for index, (document, sentences) in enumerate(passages):
        make = (_summarise, _answer)[index % 2]
        made.append(make(document, sentences, chat))
    return made


def _passages(documents, characters: int, seed: int, most: int) -> Iterator[tuple[Document, list[str]]]:
    ids = documents.ids if hasattr(documents, "ids") else [document.id for document in documents]
    found = 0
    for index in sorted(range(len(ids)), key=lambda index: uniform("passage", seed, ids[index])):
        sentences = _opening(documents[index].text, characters)
        if sentences:
            yield documents[index], sentences
            found += 1
        if found == most:
            return


def _opening(text: str, characters: int) -> list[str]:
    """The first sentences of a text's paragraphs, up to that many characters; none if they do not fill three quarters.

    Of short lines (headings, lists, verse by verse) there is no prose to be had.
    """
    sentences: list[str] = []
    size = 0
    for paragraph in text.split("\n"):
        for sentence in _SENTENCE.split(paragraph.strip()) if len(paragraph) >= 100 else ():
            if size + len(sentence) > characters:
                return sentences if size >= 0.75 * characters and _asked(sentences) else []
            sentences.append(sentence)
            size += len(sentence) + 1
    return []


def _asked(sentences: list[str]) -> str | None:
    """The sentence that is asked for: the long one nearest to the middle."""
    long = [index for index, sentence in enumerate(sentences) if len(sentence) >= _LONG_SENTENCE]
    middle = len(sentences) / 2
    return sentences[min(long, key=lambda index: abs(index - middle))] if long else None


def _summarise(document: Document, sentences: list[str], chat: bool) -> Question:
    text = (
        f"Passage about {document.title}:\n\n{' '.join(sentences)}\n\n"
        f"Summarise the passage in a few sentences. Keep to its own words where you can.{'' if chat else SUMMARY}"
    )
    return Question(f"{SUMMARISE}/{document.id}", SUMMARISE, chat, [text])


def _answer(document: Document, sentences: list[str], chat: bool) -> Question:
    beginning = " ".join(_asked(sentences).split()[:5])
    text = (
        f"Passage about {document.title}:\n\n{' '.join(sentences)}\n\n"
        f"Answer from the passage alone, and quote it: how does the sentence that begins with “{beginning}” go on, and "
        f"what does the passage say after it?{'' if chat else REPLY}"
    )
    return Question(f"{ANSWER}/{document.id}", ANSWER, chat, [text])
