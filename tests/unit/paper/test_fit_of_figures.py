import runpy
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))
import synthetic

from specpress.analysis.tables import observations, summary
from specpress.paper.plotting import cut_intervals

ROOT = Path(__file__).parents[3]
FIGURES = yaml.safe_load((ROOT / "paper/contents.yaml").read_text())["figures"]


pytestmark = pytest.mark.usefixtures("paper_style")


@pytest.fixture(scope="module")
def whole():
    """Both tables of a study with all kinds of experiments, and with names as long as they come."""
    copy = {"name": "quantized_target", "bits": 4, "group": 128, "symmetric": True}
    constant = {"schedule": {"name": "constant", "gamma": 3}, "prompts": 3}
    known = [{"name": "draft_model", "model": "draft"}, {"name": "suffix_lookup"}]
    warm = {"name": "token_recycling", "warm": "wikipedia"}
    mixture = {"name": "mixture", "nodes": 3, "drafters": [*known, warm]}
    metrics = [
        *synthetic.whole_study(prompts=3, passages=3),
        synthetic.speed("copy", drafter=copy, acceptance=0.8, **constant),
        synthetic.speed("tree", drafter=mixture, acceptance=0.2, verification="traversal", **constant),
        *(synthetic.perplexity("knorm", "bible", identifier=f"at-{n}", context=n, passages=3) for n in (768, 2500)),
    ]
    metrics = [item | {"file": "x.json"} for item in metrics]
    return summary(metrics), observations(metrics)


def draw(script, table):
    return runpy.run_path(str(ROOT / "scripts" / script))["draw"](table)


def test_other_schedules_stand_for_a_drafter_only_where_it_has_nothing_else(whole):
    script = runpy.run_path(str(ROOT / "scripts/plot_accepted_length.py"))
    names = set(script["accepted"](whole[0]).name)
    assert "Draft model" in names
    assert "Draft model, AIMD" not in names
    alone = whole[0][(whole[0].kind == "speed") & (whole[0].schedule == "aimd")]
    assert "Draft model, AIMD" in set(script["accepted"](alone).name)


def test_two_lengths_of_a_drafter_are_both_in_its_label():
    rows = pd.DataFrame({"name": "Draft model", "drafter": "draft_model", "gamma": [4.0, 2.0], "sampling": ["b", "a"]})
    label = runpy.run_path(str(ROOT / "scripts/plot_accepted_length.py"))["label"]
    assert label(rows, ["a", "b"]) == "Draft model, γ\u00a0=\u00a02/4"


def test_an_axis_ends_where_it_is_cut_and_what_goes_on_ends_in_an_arrow():
    _, axis = plt.subplots()
    axis.errorbar([1, 2], [1, 2], yerr=[[0.5, 0.5], [0.2, 50]], fmt="none")
    left = axis.get_xlim()
    cut_intervals(axis, low=0.1, high=3)
    arrows = [
        (*map(float, line.get_xydata()[0]), line.get_marker()) for line in axis.lines if len(line.get_xydata()) == 1
    ]
    assert arrows == [(2.0, 3.0, "^")]
    assert axis.get_ylim()[1] == 3
    cut_intervals(axis, high=1.5, along="x")  # no interval lies along it
    assert axis.get_xlim() == left


def tree_table(tokens, parents, kept):
    """Observations of one tree."""
    shared = {"experiment": "a", "document": "Once upon a time"}
    rows = [
        shared | {"metric": metric, "iteration": node, "value": value, "token": token}
        for node, (token, *both) in enumerate(zip(tokens, parents, kept, strict=True))
        for metric, value in zip(("tree_parent", "tree_kept"), both, strict=True)
    ]
    return pd.DataFrame([*rows, shared | {"metric": "tree_next", "value": 1, "token": " end"}])


def inside(figure):
    """Whether all that is drawn lies on the figure, to a point."""
    figure.canvas.draw()  # lays it out
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    point = 1 / 72
    return box.x0 >= -point and box.y0 >= -point and box.x1 <= width + point and box.y1 <= height + point


def test_a_tree_too_wide_for_its_column_is_cut_and_what_is_left_is_legible():
    deep = tree_table([f" token{i}" for i in range(20)], range(-1, 19), [1] * 20)
    figure = draw("plot_tree.py", deep)
    assert inside(figure)
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown.count("…") == 1
    assert 3 < len(shown) < 12
    assert all(text.get_fontsize() >= 6 for text in figure.axes[0].texts)
    small = draw("plot_tree.py", tree_table([" a", " b", " c"], [-1, 0, -1], [1, 1, 0]))
    assert {text.get_text() for text in small.axes[0].texts} == {"…·upon·a·time", "·a", "·b", "·c", "then ·end"}


def test_a_tree_that_branches_is_shown_before_a_longer_path():
    merit = runpy.run_path(str(ROOT / "scripts/plot_tree.py"))["merit"]
    path, branching, other = ({0: -1, 1: 0}, {0, 1}), ({0: -1, 1: -1}, {0}), ({0: -1, 1: -1}, {1})
    assert sorted([other, path, branching], key=merit) == [path, branching, other]


@pytest.mark.parametrize("figure", FIGURES)
def test_nothing_is_written_beyond_a_figure(figure, whole):
    table = whole[("summary", "observations").index(FIGURES[figure]["reads"])]
    assert inside(draw(Path(FIGURES[figure]["script"]).name, table))


def test_a_model_without_a_press_has_no_line_of_perplexity(whole):
    bare = whole[0][(whole[0].metric == "ppl_ratio")].iloc[:1].assign(press=None, model="other")
    legend = draw("plot_perplexity_ratio.py", pd.concat([whole[0], bare])).legends[0]
    assert not any("other" in text.get_text() for text in legend.get_texts())
