import re

from markupsafe import Markup
from stored import write_study

from specpress.paper.captions import Caption
from specpress.provenance.archive import open_results
from specpress.provenance.numbers import read_numbers
from specpress.report.pages import environment_page, numbers_page, study_page, table_page


def test_table_page_has_title_caption_and_table():
    text = table_page(Caption("Speed & more", Markup("Up to <em>1.500</em>.")), "<table></table>")
    assert "<title>Speed &amp; more</title>" in text
    assert "<p>Up to <em>1.500</em>.</p>\n<table></table>" in text


def test_numbers_page_has_every_number_once(tmp_path):
    numbers = read_numbers(open_results(write_study(tmp_path)))
    text = numbers_page(numbers.values())
    assert re.findall(r'data-name="(.*?)"', text) == list(numbers)
    assert "1.250 [1.125, 1.500]" in text
    assert "not measured: no drafter" in text
    assert "metrics/aimd.json, metrics/plain.json: runs[*] and brackets of both" in text


def test_environment_page_tells_what_is_shared_and_what_differs():
    values = [{"value": 2, "experiments": ["a", "b"]}, {"value": 4, "experiments": ["c"]}]
    manifest = {"source": {"kind": "path"}, "parameters": 10, "files": {"a": 1}, "version": None}
    environment = {"common": {"cpu": "<CPU>"}, "different": {"threads": values}, "models": {"target": manifest}}
    text = environment_page(environment)
    assert "<td>cpu</td><td>&lt;CPU&gt;</td>" in text
    assert "<td>threads</td><td>2 (2 of them); 4 (1 of them)</td>" in text
    assert "<h2>Model: target</h2>" in text
    assert "<td>source.kind</td><td>path</td>" in text
    assert "files" not in text


def test_pages_load_nothing():
    text = study_page("study: <tiny>")
    assert "study: &lt;tiny&gt;" in text
    assert not re.search(r"https?://|src=|<link", text)
