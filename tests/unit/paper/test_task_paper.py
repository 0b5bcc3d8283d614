"""What the paper says of tasks, and shows: chosen by the result."""

import runpy

import matplotlib.pyplot as plt
import pytest
import synthetic
from test_paper import ROOT, definitions, html_of, results_of, text_of

from specpress.analysis.tables import summary
from specpress.paper.cells import Cell
from specpress.paper.findings.tasks import Ranking

HARM = {"streaming_llm": 0.2, "knorm": 0.9, "snapkv": 0.3, "expected_attention": 0.5, "tova": 0.7}


def measured(order=1, presses=5, **options):
    """Tasks, and perplexities of the same presses, which harm in the same order, or the opposite one."""
    harm = dict(zip(sorted(HARM, key=HARM.get), sorted(HARM.values())[::order], strict=True))
    curves = [synthetic.perplexity(press, "wikipedia", harm=harm[press], scatter=0.001, steps=True) for press in HARM]
    return [synthetic.tasks(presses=HARM, **options), *curves[:presses]]


@pytest.fixture(scope="module")
def results():
    return results_of(measured())


@pytest.mark.parametrize(
    ("options", "says", "abstract"),
    [
        (
            {"order": 1},
            "question, it does: over the means",
            "perplexity ranks presses as they do (rank correlation 1.00",
        ),
        ({"order": -1}, "it ranks them the other way round: over the means", "perplexity ranks presses the other way"),
        (
            {"presses": 4},
            "this study cannot tell: over the means",
            "perplexity does not decidedly rank presses as they",
        ),
        (
            {"presses": 2},
            "no rank correlation to tell: fewer than 3 presses with both",
            "perplexity cannot be set against",
        ),
    ],
)
def test_the_text_says_whether_perplexity_ranks_presses_as_the_tasks_do(options, says, abstract):
    found = results_of(measured(**options))
    assert says in text_of(found, "text/tasks")
    assert f"Of 3 tasks hidden in the text the full cache can do 2; {abstract}" in text_of(found, "text/abstract")


def test_a_correlation_that_chance_may_explain_decides_nothing():
    def verdict(kendall, p):
        return Ranking(Cell("t", "kendall", kendall), Cell("t", "kendall_p", p), Cell("t", "spearman", kendall)).verdict

    assert [verdict(0.9, 0.01), verdict(-0.9, 0.01), verdict(0.9, 0.06), verdict(None, None)] == [
        "as", "against", "open", "none",
    ]  # fmt: skip


def test_what_the_full_cache_can_do_and_fails_is_said_with_intervals(results):
    text = text_of(results, "text/tasks")
    assert (
        "the full cache can do one needle and several needles: 100\\% [79\\%, 100\\%]; 100\\% [79\\%, 100\\%]" in text
    )
    assert "It fails common words, with 19\\% [4\\%, 46\\%]" in text
    assert "does not reach 50\\%" in text
    none = text_of(results_of([synthetic.tasks(able=())]), "text/tasks")
    assert "can do none of the tasks" in none
    assert "includegraphics" not in none
    assert "no experiment on tasks" in text_of(results_of([synthetic.speed("a")]), "text/tasks")


def test_losses_beyond_their_intervals_are_counted_by_mode(results):
    (study,) = results.task_studies
    for mode, start in (("agnostic", "A press that does not see the question"), ("aware", "One that sees it")):
        sides = study.sides(mode)
        assert sides["all"] == 2 * 5 * 4
        assert 0 < sides["below"] < sides["all"]
        assert f"{start} leaves {sides['below']} of 40 accuracies" in text_of(results, "text/tasks")
    assert study.sides("agnostic")["below"] > study.sides("aware")["below"]
    assert "With 50\\% removed the accuracy over 2 tasks goes from 56\\% for Knorm to 88\\% for " in text_of(
        results, "text/tasks"
    )


def test_the_table_has_presses_by_ratio_and_task_and_marks_what_is_lost(results):
    table = text_of(results, "tables/tasks")
    assert table.count("Knorm &") == 2  # question unseen, and seen
    unseen, seen = table.split("Question seen")
    assert "Question unseen" in unseen
    row = seen[seen.index("StreamingLLM &") :].split(r"\\")[0]
    assert row.count("&") == 3 * 4  # two tasks, and both together
    assert "\\rlap{*}" in table[table.index("Knorm &") :].split(r"\\")[0]
    assert "\\rlap{*}" not in row
    assert "Decides nothing" in seen
    assert "Common words & 19\\%" in seen
    assert html_of(results, "all-tasks").count(">Knorm</td>") == 3 * 4 * 2
    assert "Not measured in this study" in text_of(results_of([synthetic.speed("a")]), "tables/tasks")


def test_tables_of_several_experiments_say_which_is_which(results):
    both = results_of([*measured(), synthetic.tasks("other", data="bible", context=2048.0, presses=HARM)])
    for where in ("Wikipedia, ", "King James Bible, 2048 tokens"):
        assert where in text_of(both, "tables/tasks")
        assert where in html_of(both, "all-tasks")
        assert where not in text_of(results, "tables/tasks")
    assert "as they do in 1, the other way round in 0, and in 0 not decidedly (rank correlations 1.00)" in text_of(
        both, "text/abstract"
    )


def test_the_numbers_of_tasks_are_defined_by_task_press_ratio_and_mode(results):
    numbers = dict(definitions(results))
    assert numbers["tasks@single_needle:knorm:0.5:agnostic", "accuracy"] == "56\\%"
    assert numbers["tasks@all:agnostic", "kendall"] == "1.00"
    assert numbers["tasks@all:0.5:agnostic", "kendall/n"] == "5"
    assert len(numbers) == len(definitions(results))


def test_the_setup_and_the_limits_speak_of_tasks(results):
    assert "Tasks are hidden in Wikipedia: 16 contexts of 1024 tokens a task" in text_of(results, "text/setup")
    assert "is all that a press can be seen to break" in text_of(results, "text/limits")


def drawn(metrics):
    plt.switch_backend("agg")
    table = summary([item | {"file": "x.json"} for item in metrics])
    with plt.style.context(["default", ROOT / "paper/style.mplstyle"]):
        figure = runpy.run_path(str(ROOT / "scripts/plot_tasks.py"))["draw"](table)
        figure.canvas.draw()
    plt.close("all")
    return figure, table


def test_accuracy_perplexity_and_step_time_stand_side_by_side():
    figure, table = drawn(measured())
    accuracy, perplexity, time = figure.axes
    series = [[line for line in axis.lines if line.get_linestyle() != "None"] for axis in figure.axes]
    assert [len(lines) for lines in series] == [10, 5, 5]
    rows = table[(table.task == "all") & (table.press == "knorm") & (table["mode"] == "agnostic")]
    expected = [1.0, *rows[rows.metric == "accuracy"].sort_values("ratio").estimate]
    assert any(list(line.get_ydata()) == pytest.approx(expected) for line in accuracy.lines)
    gains = table[(table.press == "knorm") & (table.metric == "step_speedup") & (table.ratio > 0)].sort_values("ratio")
    assert any(list(line.get_ydata()) == pytest.approx([1, *(1 / gains.estimate)]) for line in time.lines)
    assert all(line.get_ydata()[0] == pytest.approx(1) for line in perplexity.lines)
    assert [axis.get_ylabel().split()[0] for axis in figure.axes] == ["accuracy", "relative", "time"]


def test_what_was_not_measured_beside_tasks_is_said():
    figure, _ = drawn([synthetic.tasks()])
    assert [text.get_text() for axis in figure.axes for text in axis.texts] == ["not measured"] * 2
    figure, _ = drawn([synthetic.tasks(able=())])
    assert [text.get_text() for axis in figure.axes for text in axis.texts] == [
        "This study has no task that the full cache can do."
    ]
