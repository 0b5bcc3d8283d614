import runpy
import sys
from html import unescape
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))
import synthetic

from specpress.analysis.tables import observations, summary
from specpress.paper.plotting import empty_sheet, fonts_for, looks, save
from specpress.paper.typesetting import glyphs
from specpress.paper.wording import method_name, press_name, sampling_name, sampling_prose

ROOT = Path(__file__).parents[3]
CONTENTS = yaml.safe_load((ROOT / "paper/contents.yaml").read_text())
FIGURES = CONTENTS["figures"] | CONTENTS["report"]["figures"]


pytestmark = pytest.mark.usefixtures("paper_style")


def draw(script, table):
    return runpy.run_path(str(ROOT / "scripts" / script))["draw"](table)


def tables(metrics):
    metrics = [item | {"file": "x.json"} for item in metrics]
    return summary(metrics), observations(metrics)


@pytest.fixture(scope="module")
def embedded():
    return tables(synthetic.embedded_study(prompts=4, passages=3))


@pytest.fixture(scope="module")
def whole():
    return tables(synthetic.whole_study(prompts=3, passages=3))


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
    assert [label.get_text() for label in axis.get_xticklabels()][-2:] == ["AIMD", "Prompt lookup"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["measured", "predicted"]
    assert "speed-up" in axis.get_ylabel()
    assert "γ" in axis.get_xlabel()


def test_intervals_are_drawn_at_their_ends(embedded):
    figure = draw("plot_perplexity_ratio.py", embedded[0])
    rows = embedded[0][
        (embedded[0].metric == "ppl_ratio") & (embedded[0].data == "bible") & (embedded[0].press == "knorm")
    ]
    axis = next(axis for axis in figure.axes if axis.get_title(loc="left") == "Knorm")
    bars = [segment for bars in axis.collections for segment in bars.get_segments()]
    ends = {(round(low[1], 6), round(high[1], 6)) for low, high in bars}
    assert {(round(low, 6), round(high, 6)) for low, high in zip(rows.low, rows.high, strict=True)} <= ends


def test_data_sets_and_ways_of_compressing_differ_in_more_than_colour(whole):
    axis = draw("plot_perplexity_ratio.py", whole[0]).axes[0]
    lines = [line for line in axis.lines if len(line.get_ydata()) == 5 and line.get_marker() != "_"]  # not caps of bars
    assert len({line.get_marker() for line in lines}) == 2
    assert {line.get_linestyle() for line in lines} == {"-", "--"}
    assert len({look.marker for look in looks("abcdefg").values()}) == 7


def test_ten_presses_are_ten_panels_from_the_best_to_the_worst(whole):
    titles = [axis.get_title(loc="left") for axis in draw("plot_perplexity_ratio.py", whole[0]).axes]
    assert len(titles) == 10
    assert titles[0] == "StreamingLLM"
    assert titles[-1] == "Random"


def test_the_regime_map_shows_every_measured_cell_and_leaves_the_others_blank(whole):
    axis = draw("plot_regime_map.py", whole[0]).axes[0]
    rows = whole[0][(whole[0].metric == "press_speedup") & whole[0].estimate.notna()]
    stars = ["*" if low > 1 or high < 1 else "" for low, high in zip(rows.low, rows.high, strict=True)]
    shown = [f"{value:.2f}{star}" for value, star in zip(rows.estimate, stars, strict=True)]
    assert sorted(text.get_text() for text in axis.texts) == sorted(shown)
    assert len(rows) == 5
    assert [label.get_text() for label in axis.get_yticklabels()] == ["8", "4", "1"]


def test_the_waterfall_ends_where_the_chain_ends_and_shows_the_anchor_as_a_line(whole):
    axis = draw("plot_waterfall.py", whole[0]).axes[0]
    totals = whole[0][(whole[0].metric == "factor_total") & (whole[0].step == "press")].estimate.iloc[0]
    last = axis.patches[-1]
    assert last.get_x() + last.get_width() == pytest.approx(totals)
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[0] == "uncached baseline"
    assert "cached baseline" not in labels
    assert "cached baseline" in {text.get_text() for text in axis.texts}
    assert any(patch.get_hatch() for patch in axis.patches)  # a loss survives a grey printer


def test_lossless_methods_stand_on_the_zero_line_and_the_front_only_rises(whole):
    script = runpy.run_path(str(ROOT / "scripts/plot_pareto.py"))
    points = script["placed"](whole[0])
    lossless = points[points.group.str.contains("lossless")]
    assert (lossless.cost == 0).all()
    assert (points[points.group == "press alone"].cost > 0).all()
    assert (points.group == "drafting on a compressed target").sum() == 2
    front = next(line for line in script["draw"](whole[0]).axes[0].lines if line.get_drawstyle() == "steps-post")
    assert (np.diff(front.get_ydata()) > 0).all()
    assert front.get_ydata()[-1] == points.speedup.max()


def test_the_front_names_the_method_that_the_text_calls_the_fastest(whole):
    """A gain of few prompts that scatter is the highest estimate, and is not named; another's lower end is."""
    summary = whole[0].copy()
    script = runpy.run_path(str(ROOT / "scripts/plot_pareto.py"))
    points = script["placed"](summary)
    lossless = points[points.group.str.contains("lossless")]
    sure = script["fastest_of"](lossless)
    lucky = lossless[lossless.name != sure["name"]].iloc[0]
    of_lucky = (summary.experiment == lucky.gain.experiment) & (summary.metric == "speedup")
    summary.loc[of_lucky, ["estimate", "high", "log_error"]] = [9.0, 80.0, 1.0]
    points = script["placed"](summary)
    assert points.speedup.max() == 9.0
    assert script["fastest_of"](points[points.group.str.contains("lossless")])["name"] == sure["name"]
    texts = {text.get_text().replace("\n", " ") for text in script["draw"](summary).axes[0].texts}
    assert sure["name"] in texts
    assert lucky["name"] not in texts


def test_drafters_are_compared_at_one_draft_length(whole):
    rows = runpy.run_path(str(ROOT / "scripts/plot_accepted_length.py"))["accepted"](whole[0])
    trees = rows.name.str.contains("token recycling")
    assert set(rows.gamma[~trees].dropna()) == {4}
    assert set(rows.gamma[trees].dropna()) == {8}
    assert not rows.duplicated(["name", "sampling"]).any()
    assert "Cascade" in set(rows.name)


def test_only_long_contexts_tell_which_press_drafts_best(whole):
    figure = draw("plot_acceptance_press.py", whole[0])
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["King James Bible, 4096 tokens"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][-1] == "StreamingLLM"


def test_time_and_memory_against_context_have_units(whole):
    left, right = draw("plot_context_cost.py", whole[0]).axes
    assert left.get_ylabel() == "time per token (ms)"
    assert right.get_ylabel() == "KV cache (MiB)"


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


def test_what_drafts_are_worth_is_drawn_in_seconds_and_by_position():
    both = tables([synthetic.draft(), synthetic.draft("head", heads=True)])[1]
    training, chain = draw("plot_draft_progress.py", both).axes
    assert training.get_xlabel() == "seconds of training"
    assert [list(line.get_xdata()[[0, -1]]) for line in training.lines[:2]] == [[20, 160]] * 2
    assert [text.get_text() for text in chain.get_legend().texts] == ["head, Wikipedia", "head, King James Bible"]
    assert len(draw("plot_draft_progress.py", tables([synthetic.draft()])[1]).axes) == 1


@pytest.mark.parametrize("figure", FIGURES)
def test_a_study_without_the_rows_gets_a_sheet_that_says_so(figure):
    nothing = dict(zip(("summary", "observations"), tables([synthetic.machine()]), strict=True))
    figure = FIGURES[figure]
    drawn = draw(Path(figure["script"]).name, nothing[figure["reads"]])
    assert drawn.axes[0].texts[0].get_text().startswith("This study")


def test_a_tiny_study_without_gamma_series_or_theory_is_drawn():
    lookup = synthetic.speed(
        "lookup",
        prompts=1,
        drafter={"name": "prompt_lookup"},
        schedule={"name": "constant", "gamma": 4},
        acceptance=0.2,
    )
    figure = draw("plot_speedup_gamma.py", tables([lookup])[0])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["Prompt lookup"]


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
        ({"drafter": "draft_model", "schedule": "constant", "gamma": 4.0}, "Draft model, γ = 4"),
        (
            {"drafter": "draft_model", "schedule": "aimd", "schedule_parameters": '{"initial": 4}'},
            "Draft model, AIMD from γ = 4",
        ),
        (
            {"drafter": "draft_model", "gamma": 2, "verification": "block", "press": "streaming_llm", "ratio": 0.5},
            "Draft model, γ = 2, block verification + StreamingLLM 50%",
        ),
        (
            {"drafter": "compressed_target", "drafter_press": "snapkv", "drafter_ratio": 0.7, "gamma": 4},
            "Self-speculation, SnapKV 70%, γ = 4",
        ),
        (
            {"drafter": "cascade", "drafter_parameters": '{"drafter": {"name": "prompt_lookup"}}', "gamma": 4},
            "Cascade on prompt lookup, γ = 4",
        ),
        ({"press": "tova", "ratio": 0.5, "cache_budget": 512}, "TOVA 50% (budget 512), no drafter"),
        ({"drafter": "draft_model", "draft_model": "intermediate", "gamma": 2}, "Draft model (intermediate), γ = 2"),
        ({"drafter": "new_thing", "schedule": float("nan")}, "New thing, default γ"),
    ],
)
def test_methods_are_named_by_what_was_varied(row, expected):
    assert method_name(row) == expected


def test_characters_that_the_figures_font_lacks_come_from_another(monkeypatch):
    assert fonts_for(pd.DataFrame({"title": ["plain", "γ – Ж"], "value": [1.0, 2.0]})) == {}
    other = Path(plt.matplotlib.get_data_path(), "fonts/ttf/cmr10.ttf")
    monkeypatch.setattr(glyphs, "font_of", lambda char: str(other))
    assert fonts_for(pd.DataFrame({"title": ["plain", "漢"]})) == {"font.family": ["DejaVu Sans", "cmr10"]}


def test_sampling_and_presses_have_readable_names():
    assert sampling_name({"temperature": 0.0}) == "greedy"
    assert sampling_prose({"temperature": 0.0}) == "with greedy decoding"
    assert sampling_name({"temperature": 1.0, "top_p": 1.0, "top_k": 50}) == "temperature 1, top-k 50"
    assert press_name("some_new_press") == "some new press"


@pytest.mark.parametrize("title", ["Ba$$in", "$5 or $6", r"\frac", "a_b^c", "100 % & <more>", "$x$ {y"])
def test_a_title_is_drawn_as_it_was_typed(whole, tmp_path, title):
    table = whole[0].copy()
    first = table[table.kind == "chain"].step_title.iloc[0]
    table.loc[table.step_title == first, "step_title"] = title
    with plt.rc_context({"svg.fonttype": "none"}):
        save(draw("plot_waterfall.py", table), tmp_path / "a.pdf", tmp_path / "a.svg")
    assert title in unescape((tmp_path / "a.svg").read_text())


def test_characters_that_no_svg_can_hold_leave_it_well_formed(tmp_path):
    """A browser showed nothing of a tree with the token U+0013."""
    figure = empty_sheet("a\x13b \ufffe -- & <")
    save(figure, tmp_path / "a.pdf", tmp_path / "a.svg")
    ElementTree.parse(tmp_path / "a.svg")
    assert "a\ufffdb \ufffd" in (tmp_path / "a.svg").read_text(encoding="utf-8")
