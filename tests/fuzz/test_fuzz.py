"""Anything may be in a file that a user writes or a run leaves: a result comes, or an error that names the place.

The suite draws a fixed few hundred examples. `FUZZ_EXAMPLES=20000 pytest tests/fuzz` draws others, and many.
"""

import copy
import json
import math
import os
import sys
import warnings
from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))
import synthetic

from specpress.analysis.loading import MetricsError, load_metrics
from specpress.analysis.provenance import environment
from specpress.analysis.tables import observations, summary
from specpress.data.documents import split_documents
from specpress.data.readers import READERS, read
from specpress.study import estimates
from specpress.study.load import StudyError, load_study, read_study
from specpress.study.plan import report

ROOT = Path(__file__).resolve().parents[2]
STUDIES = [yaml.safe_load(path.read_text()) for path in (ROOT / "tests/study.yaml", ROOT / "config/pythia.yaml")]
METRICS = [*synthetic.tiny_study(), synthetic.regime(), synthetic.machine(), synthetic.chain(), synthetic.draft()]
LONG = os.environ.get("FUZZ_EXAMPLES")
QUIET = {"suppress_health_check": list(HealthCheck), "deadline": None}


def fuzz(examples):
    """The settings of a target: fixed and few in the suite, other ones and many on demand."""
    if LONG:
        return settings(max_examples=int(LONG), derandomize=False, **QUIET)
    return settings(max_examples=examples, **QUIET)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.sampled_from([0, 1, -1, 16.0, 0.5, math.nan, math.inf, -math.inf, 1e308]),
    st.text(max_size=8),
    st.sampled_from(["", "{x}", "target", "draft", "knorm", "aimd", "../x", "\x00", "a b", "$", "\ud800", "日本"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def places(value, path=()):
    """The path of everything inside nested mappings and lists."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(item, (*path, key))


def mutated(data, original):
    """A copy with one to three of its parts removed, replaced, doubled or renamed."""
    value = copy.deepcopy(original)
    for _ in range(data.draw(st.integers(1, 3))):
        found = list(places(value))
        if not found:
            return value
        *way, last = data.draw(st.sampled_from(found))
        inner = value
        for key in way:
            inner = inner[key]
        change = data.draw(st.sampled_from(["replace", "remove", "double", "rename", "swap"]))
        if change == "replace":
            inner[last] = data.draw(values)
        elif change == "remove":
            del inner[last]
        elif change == "double" and isinstance(inner, list):
            inner.append(copy.deepcopy(inner[last]))
        elif change == "rename" and isinstance(inner, dict):
            inner[data.draw(st.text(max_size=5) | st.integers() | st.booleans())] = inner.pop(last)
        elif change == "swap":
            inner[last] = copy.deepcopy(
                inner[
                    data.draw(st.sampled_from(sorted(inner, key=str) if isinstance(inner, dict) else range(len(inner))))
                ]
            )
    return value


def cut_up(data, original: bytes) -> bytes:
    """Bytes with a few pieces replaced by others, as a slip of the hand or of a disk leaves them."""
    text = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 40)))
        text[start:end] = data.draw(
            st.binary(max_size=6)
            | st.sampled_from([b"\t", b"\n", b": ", b"- ", b"{", b"&a", b"*a", b"\xe9", b"<", b'"'])
        )
    return bytes(text)


def refusal(kind: type[Exception], call) -> Exception | None:
    """The error of this kind that a call ends with; None if it ends well. Any other is the failure of the test."""
    try:
        call()
    except kind as error:
        return error
    return None


def assert_places(refused: StudyError | None):
    """Each problem is led by the path of a key, or by the file and line."""
    for problem in refused.problems if refused else ():
        assert problem.partition(":")[0].strip(), problem
        assert "Traceback" not in problem


@fuzz(120)
@given(data=st.data())
def test_a_mutated_study_is_loaded_and_planned_or_refused_with_the_place(data):
    study = mutated(data, data.draw(st.sampled_from(STUDIES)))
    assert_places(refusal(StudyError, lambda: report(load_study(study), estimates.machine("t4"))))


@fuzz(120)
@given(data=st.data())
def test_a_study_file_cut_up_is_read_or_refused_with_the_line(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "study.yaml"
    path.write_bytes(cut_up(data, (ROOT / "tests/study.yaml").read_bytes()))
    assert_places(refusal(StudyError, lambda: read_study(path)))


@fuzz(20)
@given(data=st.data())
def test_mutated_metrics_are_analysed_or_refused_with_the_file(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    chosen = data.draw(st.lists(st.sampled_from(range(len(METRICS))), min_size=1, max_size=2, unique=True))
    paths = []
    for index in chosen:  # the first is mutated, another beside it is not
        item = METRICS[index] if paths else mutated(data, METRICS[index])
        paths.append(folder / f"{index}.json")
        paths[-1].write_text(json.dumps(item))
    refused = refusal(MetricsError, lambda: analysed(paths))
    assert refused is None or (".json" in str(refused) and "\n" not in str(refused))


def analysed(paths):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that overflow
        metrics = load_metrics(paths)
        return observations(metrics), summary(metrics), environment(metrics)


TEXTS = {
    "text": b"A first paragraph.\n\nA second one.\n\nA third.\n",
    "jsonl": b'{"text": "one", "id": 1}\n{"text": "two", "title": "Two"}\n',
    "mediawiki": b"<mediawiki><page><title>A</title><ns>0</ns><id>1</id><revision><text>"
    + b"''A'' is a [[letter]] of {{lang|en}} <ref>x</ref>. " * 60
    + b"</text></revision></page></mediawiki>",
    "kjv": b'x = Bible("v", "In the [beginning]. And so on.", {1001001: 0, 2001001: 10}, {}, {}, {1: "A", 2: "B"})\n',
}


@fuzz(120)
@given(data=st.data())
def test_a_text_cut_up_is_read_or_refused_with_the_file(data, tmp_path_factory):
    reader = data.draw(st.sampled_from(sorted(TEXTS)))
    path = tmp_path_factory.getbasetemp() / "some.txt"
    path.write_bytes(
        data.draw(st.binary(max_size=60)) if data.draw(st.integers(0, 9)) == 0 else cut_up(data, TEXTS[reader])
    )
    refused = refusal(ValueError, lambda: split_documents(read(reader, path), 0.5))
    assert not isinstance(refused, UnicodeDecodeError)
    assert refused is None or "some.txt" in str(refused) or "document" in str(refused)


def test_every_reader_of_plain_files_is_fuzzed():
    assert set(READERS) - set(TEXTS) == {"parquet", "wikitext"}
