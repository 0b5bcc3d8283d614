import runpy
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import synthetic

from specpress.analysis import observations, summary
from specpress.plotting import looks, save
from specpress.wording import method_name, press_name, sampling_name, sampling_prose

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _paper_style():
    plt.switch_backend("agg")
    with plt.style.context(["default", ROOT / "paper/style.mplstyle"]):
        yield
    plt.close("all")


def draw(script, table):
    return runpy.run_path(str(ROOT / "scripts" / script))["draw"](table)


def tables(metrics):
    metrics = [item | {"file": "x.json"} for item in metrics]
    return summary(metrics), observations(metrics)


@pytest.fixture(scope="module")
def embedded():
    return tables(synthetic.embedded_study(prompts=4, passages=3))


def test_measured_and_predicted_speedups_stand_beside_each_other(embedded):
    figure = draw("plot_speedup_gamma.py", embedded[0])
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["Greedy", "Temperature 0.85, top-p 0.9"]
    axis = figure.axes[0]
    rows = embedded[0][(embedded[0].sampling == "greedy") & (embedded[0].schedule == "constant")]
    rows = rows[rows.drafter == "draft_model"].sort_values("gamma")
    drawn = [line.get_ydata() for line in axis.lines if len(line.get_ydata()) == 6]
    for metric in ("speedup", "predicted_speedup"):
        expected = rows[rows.metric == metric].estimate.to_numpy(float)
        assert any(np.allclose(values, expected) for values in drawn), metric
    assert [label.get_text() for label in axis.get_xticklabels()][-2:] == ["AIMD", "Prompt\nlookup"]
    assert {text.get_text() for text in axis.texts} == {"measured", "predicted"}
    assert "speed-up" in axis.get_ylabel()
    assert "γ" in axis.get_xlabel()


def test_intervals_are_drawn_at_their_ends(embedded):
    figure = draw("plot_perplexity_ratio.py", embedded[0])
    rows = embedded[0][
        (embedded[0].metric == "ppl_ratio") & (embedded[0].data == "bible") & (embedded[0].press == "knorm")
    ]
    bars = [segment for bars in figure.axes[0].collections for segment in bars.get_segments()]
    ends = {(round(low[1], 6), round(high[1], 6)) for low, high in bars}
    assert {(round(low, 6), round(high, 6)) for low, high in zip(rows.low, rows.high, strict=True)} <= ends


def test_presses_differ_in_more_than_colour(embedded):
    axis = draw("plot_perplexity_ratio.py", embedded[0]).axes[0]
    lines = [line for line in axis.lines if len(line.get_ydata()) == 5 and line.get_marker() != "_"]  # not caps of bars
    assert len({line.get_marker() for line in lines}) == 2
    assert len({line.get_linestyle() for line in lines}) == 2
    assert len({look.marker for look in looks("abcdefg").values()}) == 7


def test_titles_of_neighbouring_panels_do_not_collide():
    figure = draw("plot_speedup_gamma.py", tables(synthetic.tiny_study())[0])
    figure.canvas.draw()
    boxes = [axis._left_title.get_window_extent() for axis in figure.axes]
    assert len(boxes) == 3
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
    assert boxes[-1].x1 <= figure.bbox.x1


def test_the_loss_curve_has_units(embedded):
    axis = draw("plot_draft_loss.py", embedded[1]).axes[0]
    assert axis.get_xlabel() == "training tokens"
    assert "nats" in axis.get_ylabel()
    assert len(axis.lines) == 2


@pytest.mark.parametrize(
    ("script", "table"),
    [("plot_speedup_gamma.py", 0), ("plot_perplexity_ratio.py", 0), ("plot_draft_loss.py", 1)],
)
def test_a_study_without_the_rows_gets_a_sheet_that_says_so(script, table):
    speed = tables([synthetic.speed("a", prompts=2)])
    figure = draw(script, speed[table])
    assert figure.axes[0].texts[0].get_text().startswith("This study")


def test_a_tiny_study_without_gamma_series_or_theory_is_drawn():
    lookup = synthetic.speed(
        "lookup",
        prompts=1,
        drafter={"name": "prompt_lookup"},
        schedule={"name": "constant", "gamma": 4},
        acceptance=0.2,
    )
    figure = draw("plot_speedup_gamma.py", tables([lookup])[0])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["Prompt\nlookup"]


@pytest.mark.parametrize(("script", "table"), [("plot_speedup_gamma.py", 0), ("plot_draft_loss.py", 1)])
def test_the_same_table_gives_the_same_bytes(embedded, script, table, tmp_path):
    for name in ("a", "b"):
        save(draw(script, embedded[table]), tmp_path / f"{name}.pdf", tmp_path / f"{name}.svg")
    for kind in ("pdf", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    assert b"CreationDate" not in (tmp_path / "a.pdf").read_bytes()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"baseline": "t", "model": "t"}, "Baseline against itself"),
        ({"baseline": "t", "model": "draft"}, "Draft alone"),
        ({"drafter": "draft_model", "schedule": "constant", "gamma": 4.0}, "Speculative, γ = 4"),
        (
            {"drafter": "draft_model", "schedule": "aimd", "schedule_parameters": '{"initial": 4}'},
            "Speculative, AIMD from γ = 4",
        ),
        (
            {"drafter": "draft_model", "gamma": 2, "verification": "block", "press": "streaming_llm", "ratio": 0.5},
            "Speculative, γ = 2, block verification + StreamingLLM 50%",
        ),
        ({"drafter": "new_thing", "schedule": float("nan")}, "New thing, default γ"),
    ],
)
def test_methods_are_named_by_what_was_varied(row, expected):
    assert method_name(row) == expected


def test_sampling_and_presses_have_readable_names():
    assert sampling_name({"temperature": 0.0}) == "greedy"
    assert sampling_prose({"temperature": 0.0}) == "with greedy decoding"
    assert sampling_name({"temperature": 1.0, "top_p": 1.0, "top_k": 50}) == "temperature 1, top-k 50"
    assert press_name("some_new_press") == "some new press"
