"""Sentences that promise no more than the study holds, and say which of several experiments they are about."""

import runpy

import pytest
import synthetic
from test_paper import ROOT, draft_of, results_of, study, text_of

from specpress.analysis.tables import summary

LOOKUP = {"drafter": {"name": "prompt_lookup"}, "schedule": {"name": "constant", "gamma": 4}, "acceptance": 0.2}
TREE = {"schedule": {"name": "constant", "gamma": 8}, "verification": "traversal", "acceptance": 0.15, "prompts": 6}
PRESS = {"name": "streaming_llm", "compression_ratio": 0.7}


def fused(*prefixes):
    return [item for item in synthetic.fusion() if item["id"].startswith(prefixes)]


@pytest.fixture(scope="module")
def new():
    """A study like those of `specpress new`: no map, no chain, no timed step, no drafts for a compressed target."""
    return results_of([*fused("speculative-gamma4", "press-", "self-"), synthetic.perplexity("knorm", "bible")])


def test_the_introduction_announces_what_the_study_holds(new):
    some, every = text_of(new, "text/outline"), text_of(study("whole"), "text/outline")
    for said in ("checked on the duelled prompts of greedy runs", "without leakage of later tokens"):
        assert said in some
        assert said in every
    for said in ("A map over batch and context says", "A chain of measurements says"):
        assert said not in some
        assert said in every
    alone = text_of(results_of([synthetic.speed("a")]), "text/outline")
    assert alone == "Every method is stated with what its output law is (\\cref{sec:methods})."


def test_a_gain_of_presses_is_announced_where_one_was_timed(new):
    some, every = text_of(new, "text/perplexity"), text_of(study("whole"), "text/perplexity")
    assert "gives each press's perplexity relative to the full cache" in some
    assert "throughput" not in some
    assert "\\caption{Presses: perplexity (PPL) relative to the full cache, compressed once after the prefix, w" in some
    assert "gives each press's gain in throughput and its perplexity relative to the full cache" in every
    assert "\\caption{Presses: gain in throughput of a one-token step" in every
    assert "compressed once after the prefix and compressed while decoding, with" in every


@pytest.mark.parametrize(
    ("prefixes", "says"),
    [
        (("press-", "lossy-", "self-"), "both fusions"),
        (("press-", "self-"), "the lossless fusion"),
        (("press-", "lossy-"), "the lossy fusion"),
        (("press-",), "presses without a drafter"),
    ],
)
def test_the_fusions_that_are_listed_are_named(prefixes, says):
    assert f"\\Cref{{tab:fusion}} lists {says};" in text_of(results_of(fused(*prefixes)), "text/fusion")


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ([synthetic.speed("a", **LOOKUP)], "the former"),
        ([synthetic.perplexity("knorm", "bible")], "the latter"),
        ([synthetic.speed("a", **LOOKUP), synthetic.perplexity("knorm", "bible")], "both"),
        (fused("self-"), "both, and their fusions,"),
    ],
)
def test_the_abstract_says_which_of_both_was_measured(metrics, says):
    assert f"We measure {says} against a cached" in text_of(results_of(metrics), "text/abstract")


def test_a_cell_of_a_map_rests_on_as_many_texts_as_repeats():
    text = text_of(results_of([synthetic.regime()]), "text/limits")
    assert "a press's gain has the machine's error alone; self-speculation sees few texts" in text
    assert "one batch of texts" not in text


@pytest.mark.parametrize(
    "part",
    [
        {"name": "draft_model", "model": "draft"},
        {"name": "feature_head", "head": "head"},
        {"name": "quantized_target", "bits": 4},
        {"name": "compressed_target", "press": PRESS},
        {"name": "cascade", "intermediate_model": "intermediate", "drafter": {"name": "prompt_lookup"}},
    ],
    ids=lambda part: part["name"],
)
def test_a_tree_in_which_a_model_drafts_is_not_called_one_without(part):
    mixture = {"name": "mixture", "nodes": 8, "drafters": [part, {"name": "suffix_lookup"}]}
    text = text_of(results_of([*synthetic.trees(), synthetic.speed("with", drafter=mixture, **TREE)]), "text/trees")
    assert "Of these drafters 3 run no model and need no training; the others draft with a model in the" in text


def test_a_tree_of_one_drafter_that_runs_a_model_is_not_called_one_without():
    drafter = {"name": "quantized_target", "children": 2}
    assert results_of([synthetic.speed("alone", drafter=drafter, **TREE)]).untrained_trees == []


# Several of a kind


def two_maps():
    """The one measured first comes last by name, and its smallest batch is larger."""
    first = synthetic.regime("z-map", batches=(4,))
    return [first, synthetic.regime("a-map", batches=(1, 2), press={"name": "knorm", "compression_ratio": 0.5})]


def test_each_map_is_told_by_itself_and_the_drawn_one_is_named():
    results = results_of([*two_maps(), synthetic.machine()])
    text = text_of(results, "text/regime")
    drawn, other = text.split("The map \\texttt{a-map}")
    assert "\\Cref{fig:regime} (\\texttt{z-map}) maps the speed of a step on a cache from which StreamingLLM" in drawn
    assert "Of the intervals of 2 cells" in drawn
    assert other.startswith(", of steps on a cache from which Knorm has removed 50\\%, is not drawn. The gain is")
    assert "Of the intervals of 4 cells" in other
    assert results.maps[0].best("press_speedup")["press_speedup"].looks == 2
    assert results.best_cell("press_speedup")["press_speedup"].looks == 6
    assert "\\Cref{fig:regime} maps the speed" in text_of(study("whole"), "text/regime")


@pytest.mark.usefixtures("paper_style")
def test_the_figures_draw_the_map_that_the_text_names():
    table = summary([item | {"file": "x.json"} for item in two_maps()])
    left, _ = runpy.run_path(str(ROOT / "scripts/plot_context_cost.py"))["draw"](table).axes
    assert left.get_title(loc="left") == "Batch 4, StreamingLLM, 70% removed"
    axis = runpy.run_path(str(ROOT / "scripts/plot_regime_map.py"))["draw"](table).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["4"]


def test_each_chain_is_told_by_itself_and_the_drawn_one_is_named():
    results = results_of([synthetic.chain("z-chain"), synthetic.chain("a-chain", steps=synthetic.STEPS[3:])])
    text, table = text_of(results, "text/chain"), text_of(results, "tables/chain")
    drawn, other = text.split("The chain \\texttt{a-chain} is in the table alone. ")
    assert "\\Cref{tab:chain} and \\cref{fig:waterfall} (\\texttt{z-chain}) go from" in drawn
    assert "From ``uncached baseline'' to ``press, 70\\% removed''" in drawn
    assert other.startswith("From ``cached speculation'' to")
    assert table.index("Measured, z-chain") < table.index("Measured, a-chain")
    assert "\\cref{fig:waterfall} go from" in text_of(study("whole"), "text/chain")


# What drafters come from


def drafted(*data, **options):
    measured = [synthetic.speed(f"on-{name}", data=name, **draft_of(4) | options) for name in data]
    return [synthetic.draft(data=("wikipedia",)), *measured]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ((), "on text of the kind they are measured on, which favours their acceptance."),
        (("wikipedia",), "on text of the kind they are measured on, which favours their acceptance."),
        (("wikipedia", "bible"), "favours their acceptance, except \\texttt{draft} on the King James Bible."),
        (("bible",), "No draft is measured on text of the kind it is trained on."),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_drafts_that_are_measured_on_other_text_are_named(data, says, inside):
    mixture = {"name": "mixture", "nodes": 8, "drafters": [{"name": "draft_model", "model": "draft"}]}
    metrics = drafted(*data, **({"drafter": mixture, "verification": "traversal"} if inside else {}))
    assert text_of(results_of(metrics), "text/drafts").endswith(says)


@pytest.mark.parametrize("known", [{"warm": "wikipedia"}, {"corpus": "wikipedia"}, {}])
@pytest.mark.parametrize("inside", [False, True])
def test_drafters_that_know_the_training_part_are_said_to(known, inside):
    drafter = {"name": "suffix_lookup", **known}
    drafter = {"name": "mixture", "nodes": 8, "drafters": [drafter]} if inside else drafter
    text = text_of(results_of([synthetic.speed("tree", drafter=drafter, **TREE)]), "text/setup")
    assert ("Only drafters know the training part." in text) == bool(known)
    assert ("Experiments read the test part only." in text) == (not known)


def test_greedy_tokens_are_said_to_be_compared_where_they_are():
    text = text_of(study("faster"), "text/losslessness")
    assert "In greedy runs of lossless methods the tokens of each duelled prompt are compared" in text
