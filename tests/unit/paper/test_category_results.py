"""What the paper says of kinds of text: the table, the figure and the sentences, from one experiment with questions."""

import runpy

import matplotlib.pyplot as plt
import pytest
import synthetic
from test_paper import ROOT, definitions, html_of, results_of, text_of

from specpress.paper.findings.categories import by_category

KINDS = {"code": 2.0, "letters": 1.0, "prose": 0.5}


@pytest.fixture(scope="module")
def results():
    """An experiment whose rounds yield twice as many tokens on code as on letters, and half as many on prose."""
    item = synthetic.speed(
        "asked", sampling="greedy", speedup=1.2, scatter=0.02, prompts=12, data="questions",
        drafter={"name": "prompt_lookup"}, schedule={"name": "constant", "gamma": 4},
    )  # fmt: skip
    for number, run in enumerate(item["runs"]):
        kind = list(KINDS)[number % len(KINDS)]
        run |= {"category": kind, "turn": 0, "prompt_tokens": 90 + number, "tokens": round(run["tokens"] * KINDS[kind])}
    return results_of([item, synthetic.speed("plain", sampling="greedy")])


def test_the_table_has_a_row_a_kind_fastest_first(results):
    html = html_of(results, "categories")
    places = [html.index(f">{kind}<") for kind in KINDS]
    assert places == sorted(places)
    assert "Prompt lookup" in html


def test_a_study_without_questions_has_no_section_on_them():
    plain = results_of([synthetic.speed("plain", sampling="greedy")])
    assert text_of(plain, "text/categories") == ""
    assert "Not measured in this study" in html_of(plain, "categories")


def test_the_text_names_the_ends_with_intervals_and_every_number_has_a_name(results):
    text = text_of(results, "text/categories")
    assert r"fastest on \emph{code}, 2." in text
    assert r"slowest on \emph{prose}, 0." in text
    assert "Of 3 kinds of text," in text
    names = {f"{key}/{metric}" for key, metric in dict(definitions(results))}
    assert {f"asked@{kind}/category_speedup" for kind in KINDS} <= names


def test_the_main_table_keeps_the_speedup_of_all(results):
    (block,) = [block for block in results.blocks if block.data == "questions"]
    (speed,) = block.speeds
    assert 1.0 < speed["speedup"].value < 1.4
    assert "for prompts of 96 tokens on average" in block.prose


def test_the_figure_has_a_row_a_kind_and_an_interval_each(results):
    draw = runpy.run_path(str(ROOT / "scripts/plot_categories.py"))["draw"]
    plt.switch_backend("agg")
    figure = draw(results.summary)
    left, right = figure.axes[:2]
    assert [label.get_text() for label in left.get_yticklabels()] == ["prose", "letters", "code"]
    (found,) = by_category(results.summary)
    drawn = sorted(left.containers[0].lines[0].get_xdata())
    assert drawn == pytest.approx(sorted(category["speedup"].value for category in found.categories))
    assert right.get_xlabel() == "position in the draft"
    plt.close(figure)
