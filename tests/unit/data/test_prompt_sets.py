import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
from tokenizers.processors import TemplateProcessing

from specpress.data.chat import in_template, opening
from specpress.data.documents import Document
from specpress.data.passage_prompts import passage_questions
from specpress.data.prompt_files import only, read_questions
from specpress.data.questions import Question, conversation, in_turn, is_prompts, joined, load_questions, save_questions
from specpress.data.readers import ReaderError
from specpress.data.store import StoreError, load_documents, save_split
from specpress.models.byte_level import byte_tokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)


def questions(*categories: str, turns=1) -> list[Question]:
    return [
        Question(f"q{i}", name, False, [f"{name} {i}.{t}" for t in range(turns)]) for i, name in enumerate(categories)
    ]


def write(path, *records, compress=False):
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(text) if compress else text)
    return path


def test_the_formats_of_others_are_read(tmp_path):
    spec_bench = write(tmp_path / "question.jsonl", {"question_id": 81, "category": "writing", "turns": ["a", "b"]})
    assert read_questions(spec_bench, chat=True) == [Question("81", "writing", True, ["a", "b"])]
    assert read_questions(spec_bench, most_turns=1)[0].turns == ["a"]
    human_eval = write(tmp_path / "h.jsonl.gz", {"task_id": "HumanEval/0", "prompt": "def f():\n"}, compress=True)
    assert read_questions(human_eval, category="code") == [Question("HumanEval/0", "code", False, ["def f():\n"])]


def test_prompts_of_a_hubs_split_come_as_parquet(tmp_path):
    rows = {"task_id": ["HumanEval/0", "HumanEval/1"], "prompt": ["def f():\n", "def g():\n"], "test": ["", None]}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "test.parquet")
    found = read_questions(tmp_path / "test.parquet", category="code")
    assert [(question.id, question.turns) for question in found] == [
        (name, [text]) for name, text in zip(rows["task_id"], rows["prompt"], strict=True)
    ]
    (tmp_path / "none.parquet").write_text("none")
    with pytest.raises(ReaderError, match=r"none\.parquet cannot be read as parquet"):
        read_questions(tmp_path / "none.parquet", category="code")


def test_a_category_is_one_line(tmp_path):
    file = write(tmp_path / "lines.jsonl", {"prompt": "x", "category": " a\n  b "})
    assert read_questions(file)[0].category == "a b"


@pytest.mark.parametrize("plain", [True, False])
def test_a_text_begins_as_the_tokenizer_begins_one(plain):
    """Where a model was trained with a token before every text; a chat template has its own."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.chat_template = TEMPLATE
    asked = conversation(Question("q", "c", not plain, ["x"]), [], tokenizer)
    assert opening(tokenizer) == []
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    assert opening(tokenizer) == [tokenizer.bos_token_id]
    assert conversation(Question("q", "c", not plain, ["x"]), [], tokenizer) == opening(tokenizer) * plain + asked


def test_a_template_that_says_the_date_says_the_same_on_every_day():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ date_string }} {{ strftime_now('%d %b') }}"
    assert in_template([{"role": "user", "content": "x"}], tokenizer) == "26 Jul 2024 26 Jul 2024"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"category": "c", "text": "x"}, r"record 1: expected `prompt` \(text\) or `turns`.*it has category, text"),
        ({"category": "c", "turns": []}, "record 1: expected `prompt`"),
        ({"category": "c", "prompt": " "}, "record 1: expected `prompt`"),
        ({"category": "c", "turns": ["a", ""]}, "record 1: expected `prompt`"),
        ({"prompt": "x"}, "record 1: no `category`"),
        ({"prompt": "x", "category": " "}, "record 1: no `category`"),
    ],
)
def test_a_record_that_is_no_prompt_is_refused_with_its_number(tmp_path, record, said):
    with pytest.raises(ReaderError, match=said):
        read_questions(write(tmp_path / "q.jsonl", record))


def test_prompts_of_one_id_are_refused(tmp_path):
    record = {"id": 3, "category": "c", "prompt": "x"}
    with pytest.raises(ReaderError, match="record 2: another has the id '3'"):
        read_questions(write(tmp_path / "q.jsonl", record, record))


def test_saved_questions_load_as_they_were_and_are_known_as_prompts(tmp_path):
    found = questions("b", "a", "b", turns=2)
    manifest = save_questions(tmp_path / "q", found, {"source": {}})
    assert load_questions(tmp_path / "q") == found
    assert manifest["categories"] == {"b": 2, "a": 1}
    assert is_prompts(tmp_path / "q")
    save_split(tmp_path / "texts", [Document(i, i, "text") for i in "ab"], 0.5, {})
    assert not is_prompts(tmp_path / "texts")
    with pytest.raises(StoreError, match="no column category, chat, turns"):
        load_questions(tmp_path / "texts")
    with pytest.raises(StoreError, match="no column text, title"):
        load_documents(tmp_path / "q", "test")


def test_sets_are_joined_under_their_names_and_cut_to_categories():
    both = joined({"one": questions("a", "b"), "two": questions("b")})
    assert [question.id for question in both] == ["one/q0", "one/q1", "two/q0"]
    assert [question.id for question in only(both, ["b"])] == ["one/q1", "two/q0"]
    with pytest.raises(ReaderError, match="the category 'c' is empty; there are a, b"):
        only(both, ["c"])


def test_categories_take_turns_and_a_seed_decides_within_each():
    found = questions(*"aaaabbc")
    order = [question.category for question in in_turn(found, 0)]
    assert order == ["a", "b", "c", "a", "b", "a", "a"]
    first = {seed: next(in_turn(found, seed)).id for seed in range(8)}
    assert len(set(first.values())) > 1
    assert list(in_turn(found[::-1], 3)) == list(in_turn(found, 3))


def test_a_conversation_holds_what_was_answered():
    tokenizer = byte_tokenizer()
    plain = Question("q", "c", False, ["one", "two", "three"])
    assert tokenizer.decode(conversation(plain, [" 1", " 2"], tokenizer)) == "one 1\ntwo 2\nthree"
    chat = Question("q", "c", True, ["one", "two"])
    with pytest.raises(ValueError, match="no chat template"):
        conversation(chat, [], tokenizer)
    tokenizer.chat_template = TEMPLATE
    assert tokenizer.decode(conversation(chat, [], tokenizer)) == "<user>one<bot>"
    assert tokenizer.decode(conversation(chat, ["1"], tokenizer)) == "<user>one<assistant>1<user>two<bot>"


SENTENCE = "The river number {} rises in the hills of the north and ends in a wide and shallow lake."


def documents(count, sentences=12):
    return [
        Document(str(i), f"River {i}", " ".join(SENTENCE.format(f"{i}.{n}") for n in range(sentences)))
        for i in range(count)
    ]


def test_prompts_made_from_passages_are_answered_from_them():
    made = passage_questions(documents(6), characters=500, count=2, chat=True)
    assert sorted(question.category for question in made) == ["answer", "answer", "summarise", "summarise"]
    assert len({question.id for question in made}) == len(made)
    for question in made:
        (text,) = question.turns
        passage = text.split("\n\n")[1]
        assert 350 <= len(passage) <= 520
        assert passage.endswith(".")
        if question.category == "answer":
            beginning = text.partition("“")[2].partition("”")[0]
            assert f". {beginning} " in passage
    assert made == passage_questions(documents(6)[::-1], characters=500, count=2, chat=True)


def test_too_few_passages_are_refused():
    with pytest.raises(ReaderError, match="need 4 documents of 500 characters of prose, but there are 3"):
        passage_questions([*documents(3), *documents(5, sentences=2)], characters=500, count=2, chat=False)
