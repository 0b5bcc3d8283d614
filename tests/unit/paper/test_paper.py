import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))
import synthetic

from specpress.analysis.provenance import environment
from specpress.analysis.tables import summary
from specpress.experiments.duels import contender, contest, duel
from specpress.paper.cells import Cell, Notes
from specpress.paper.claims import verdict_counts
from specpress.paper.decisions import side, speed_phrase
from specpress.paper.findings.points import by_factor
from specpress.paper.prose import counted, described, listed, share, tally
from specpress.paper.results import Results
from specpress.paper.tables import TABLES
from specpress.paper.typesetting.latex import escape
from specpress.paper.typesetting.rendering import render
from specpress.paper.verdicts import Verdict, adds_about, best_of_all, everywhere, reaches
from specpress.theory import costs, duels
from specpress.theory.intervals import CONFIDENCE, FEWEST

ROOT = Path(__file__).parents[3]
CONTENTS = yaml.safe_load((ROOT / "paper/contents.yaml").read_text())
ORIGINAL = yaml.safe_load((ROOT / "paper/original.yaml").read_text())
SOURCES = yaml.safe_load((ROOT / "paper/sources.yaml").read_text())
TEMPLATES = {
    **{f"tables/{name}": CONTENTS["layouts"]["paper"] for name in CONTENTS["tables"]},
    **{f"text/{name}": part["template"] for name, part in CONTENTS["texts"].items()},
    "numbers": CONTENTS["numbers"]["template"],
}
CAPTIONS = yaml.safe_load((ROOT / "paper/captions.yaml").read_text())
STUDIES: dict[str, Results] = {}
NAN = float("nan")


def results_of(metrics):
    metrics = [item | {"file": f"metrics/{item['id']}.json"} for item in metrics]
    described = environment(metrics, models=synthetic.MODELS, data=synthetic.DATA)
    table = io.StringIO(summary(metrics, synthetic.MODELS).to_csv(index=False))  # as the workflow hands it on
    return Results(pd.read_csv(table), described, ORIGINAL, SOURCES, CAPTIONS)


def study(name):
    if name not in STUDIES:
        makers = {"tiny": synthetic.tiny_study, "whole": synthetic.whole_study}
        made = makers[name]() if name in makers else synthetic.embedded_study(name)
        STUDIES[name] = results_of(made)
    return STUDIES[name]


def text_of(results, name):
    """One rendered file, its macros replaced by their values and its white space by single spaces."""
    numbers = dict(definitions(results))
    text = rendered(results, name)
    text = re.sub(r"\\result\{(.+?)\}\{(.+?)\}", lambda found: numbers[found.groups()], text)
    return " ".join(text.split())


def rendered(results, name):
    """A file of LaTeX: a text, or a table in the layout of all."""
    table = {"table": TABLES[name.removeprefix("tables/")](results)} if name.startswith("tables/") else {}
    return render(ROOT / TEMPLATES[name], **results.context(), **table)


def html_of(results, name):
    """A table as the report has it."""
    return render(ROOT / CONTENTS["layouts"]["report"], table=TABLES[name](results))


def definitions(results):
    """What numbers.tex defines, in order; rendered once for each results."""
    if "definitions" not in vars(results):
        numbers = render(ROOT / TEMPLATES["numbers"], **results.context())
        found = re.findall(r"\\defineresult\{(.+?)\}\{(.+?)\}\{(.*)\} %", numbers)
        vars(results)["definitions"] = [((key, name), value) for key, name, value in found]
    return vars(results)["definitions"]


def test_the_set_up_says_how_threads_wait_where_it_was_asked_for():
    results = study("tiny")
    for asked, said in (("default", "2 threads, 8.00"), ("OMP_WAIT_POLICY=passive", "which wait by OMP_WAIT_POLICY")):
        common = results.environment["common"] | {"waiting": asked}
        assert said in replace(results, environment=results.environment | {"common": common}).setup.machine()


def test_what_is_picked_among_presses_or_steps_has_the_interval_of_one_of_so_many():
    """The lowest and the highest perplexity, the best acceptance, the largest factor of a chain."""
    results = study("whole")
    for blocks, metric in ((results.main_points, "ppl_ratio"), (results.long_acceptances, "acceptance")):
        assert blocks
        for points in blocks:
            assert len(points) > 1
            plain = {(p.block, p.press, p.ratio): p.cell(metric) for p in results.points}
            for point in points:
                before, adjusted = plain[point.block, point.press, point.ratio], point.cell(metric)
                assert adjusted.looks == len(points)
                assert adjusted.high - adjusted.low > before.high - before.low
    text = text_of(results, "text/chain")
    links = [step for steps in results.chains.values() for step in by_factor(steps)]
    assert f"The largest single factor is {links[-1]['factor'].text}" in text
    assert f"(adjusted for {len(links)} settings)" in text


# What the paper is made of


def test_what_the_tex_reads_is_what_the_contents_declare():
    files = [ROOT / path for path in [*CONTENTS["sources"], *set(TEMPLATES.values())]]
    text = "\n".join(path.read_text() for path in files if path.suffix != ".bib")
    declared = {
        path.removeprefix("paper/").removesuffix(".tex") for path in CONTENTS["sources"] if "/sections/" in path
    }
    assert set(re.findall(r"\\input\{(.+?)\}", text)) == declared | set(TEMPLATES)
    assert set(re.findall(r"\\includegraphics(?:\[.*?\])?\{(.+?)\}", text)) == {
        f"figures/{f}" for f in [*CONTENTS["figures"], *CONTENTS["graphs"]]
    }
    assert re.findall(r"\\bibliography\{(.+?)\}", text) == ["refs"]
    assert "paper/refs.bib" in CONTENTS["sources"]


def test_nothing_in_the_paper_folder_is_undeclared():
    on_disk = {str(path.relative_to(ROOT)) for path in (ROOT / "paper/sections").iterdir()}
    on_disk |= {str(path.relative_to(ROOT)) for path in (ROOT / "paper/templates").iterdir()}
    sections = {path for path in CONTENTS["sources"] if "/sections/" in path}
    of_report = {CONTENTS["report"]["front"]["template"]}
    assert on_disk == sections | set(TEMPLATES.values()) | set(CONTENTS["layouts"].values()) | of_report
    for figure in [*CONTENTS["figures"].values(), *CONTENTS["report"]["figures"].values()]:
        assert (ROOT / figure["script"]).exists()
        assert figure["reads"] in ("summary", "observations")


def test_every_figure_and_table_has_a_title_and_a_caption_and_every_table_is_known():
    of_report = CONTENTS["report"]
    tables = {*CONTENTS["tables"], *of_report["tables"]}
    assert set(CAPTIONS["tables"]) == tables == set(TABLES)
    assert set(CAPTIONS["figures"]) == {*CONTENTS["figures"], *CONTENTS["graphs"], *of_report["figures"]}
    captions = study("tiny").all_captions
    for name, caption in captions.items():
        assert caption.title, name
        assert escape(caption.text).endswith("."), name
    floats = "".join((ROOT / path).read_text() for path in set(TEMPLATES.values()))
    shown = re.findall(r"\\(?:includegraphics|input)(?:\[.*?\])?\{((?:figures|tables)/.+?)\}", floats)
    assert sorted(re.findall(r'caption\("(.+?)"\)', floats)) == sorted(shown)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_no_html_is_left_in_the_latex(name):
    assert re.findall(r"</?[a-z]+[ >]", rendered(study("whole"), name)) == []


def test_every_citation_has_an_entry_and_every_entry_a_citation():
    files = [*(ROOT / "paper").rglob("*.tex"), *(ROOT / "paper").rglob("*.j2"), ROOT / "paper/sources.yaml"]
    text = "\n".join(path.read_text() for path in files)
    cited = {key for keys in re.findall(r"\\cite[tp](?:\[.*?\])?\{([a-z0-9,]+)\}", text) for key in keys.split(",")}
    cited |= set(re.findall(r"<cite>([a-z0-9]+)</cite>", text))
    cited |= {known["cite"] for known in SOURCES.values() if "cite" in known}
    assert cited == set(re.findall(r"^@\w+\{(.+),$", (ROOT / "paper/refs.bib").read_text(), flags=re.M))


def test_no_measured_number_is_typed_into_the_text():
    texts = [ROOT / part["template"] for part in CONTENTS["texts"].values()]
    for path in [*texts, *(ROOT / "paper/sections").iterdir()]:
        assert re.findall(r"(?<!Pythia-)(?<!section~)\b\d+\.\d+(?![\d\\]|em|/k)", path.read_text()) == [], path


# Decisions


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(1.1, 1.2, "above"), (0.8, 0.9, "below"), (0.9, 1.1, "undecided"), (1.0, 1.2, "undecided"),
     (None, None, "undefined"), (float("nan"), float("nan"), "undefined")],
)  # fmt: skip
def test_the_side_is_read_off_the_whole_interval(low, high, expected):
    assert side(low, high) == expected


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (1.1, 1.2, "is faster"),
        (0.8, 0.9, "is slower"),
        (0.9, 1.1, "not distinguishable"),
        (None, None, "for want of an interval"),
    ],
)
def test_the_phrase_follows_the_interval_not_the_estimate(low, high, words):
    assert words in speed_phrase(Cell("a", "speedup", 1.5, low, high, 9))


def test_counts_and_lists_read_as_prose():
    assert [counted(n, "prompt") for n in (0, 1, 12)] == ["no prompts", "one prompt", "12 prompts"]
    assert [share(n, 9) for n in (0, 4, 9)] == ["none of 9", "4 of 9", "all 9"]
    assert [tally(n, "lies", "lie") for n in (0, 1, 2)] == ["none lies", "one lies", "2 lie"]
    assert [listed(x) for x in (["a"], ["a", "b<c"], ["a", "b", "c"])] == ["a", "a and b&lt;c", "a, b and c"]


def test_a_missing_value_is_a_dash_whose_reason_stands_below():
    notes = Notes()
    missing = Cell("a", "speedup", note="no drafter: 5% of them")
    assert notes.show(missing) == "—<span><sup>a</sup></span>"
    assert notes.show(missing) == notes.show(Cell("b", "speedup", note="no drafter: 5% of them"))
    assert notes.show(Cell("c", "ppl", 2.0, note="one unit: no interval")) != "2.00"
    assert notes.lines() == [("a", "no drafter: 5% of them"), ("b", "one unit: no interval")]


def test_sources_are_described_as_far_as_they_are_known():
    known = escape(described("target", synthetic.MODELS["target"], SOURCES))
    assert "SmolLM2-135M-Instruct" in known
    assert "Apache-2.0" in known
    assert "135~million parameters" in known
    random = escape(described("a_b", {"source": {"kind": "random", "architecture": "gpt_neox"}}, SOURCES))
    assert random == r"\texttt{a\_b} is a gpt\_neox model of random weights, made on the spot."
    assert "unrecorded origin" in described("x", {}, SOURCES)
    assert "CC~BY-SA" in escape(described("wikipedia", synthetic.DATA["wikipedia"], SOURCES))
    halves = {"train": {"documents": 48, "characters": 9}, "test": {"documents": 1, "characters": 9}}
    assert "split into 48 documents for training and one document for testing" in described("x", halves, {})


# What the text says


@pytest.mark.parametrize(
    ("scenario", "says", "never"),
    [
        ("faster", "is faster than the cached baseline", "is slower"),
        ("slower", "is slower than the cached baseline", "is faster"),
        ("undecided", "is not distinguishable from the cached baseline", "is faster"),
    ],
)
def test_the_text_says_what_the_intervals_say(scenario, says, never):
    for name in ("text/speed",):
        text = text_of(study(scenario), name)
        assert says in text
        assert never not in text


def test_the_numbers_in_the_text_are_those_of_the_summary():
    results = study("faster")
    best = results.swept[0].best
    assert best["speedup"].value == max(s["speedup"].value for s in results.swept[0].of_kind("constant"))
    cell = best["speedup"]
    assert f"{cell.value:.3f} [{cell.low:.3f}, {cell.high:.3f}]" in text_of(results, "text/speed")
    _, fastest = results.best_lossless[0]
    looks = len(results.speeds_of("constant", "dynamic", "block", "cascade", "other", "tree", "self"))
    cell, plain = fastest["speedup"], results.speed_of(fastest.experiment)["speedup"]
    assert cell.looks == looks > 1
    assert cell.low < plain.low < plain.high < cell.high
    told = f"{cell.value:.3f} [{cell.low:.3f}, {cell.high:.3f}] (adjusted for {looks} settings)"
    assert told in text_of(results, "text/abstract")


def test_every_number_is_defined_once_with_its_file_and_field():
    for name in ("faster", "tiny"):
        keys = [key for key, _ in definitions(study(name))]
        assert len(keys) == len(set(keys)) > 20
    numbers = render(ROOT / TEMPLATES["numbers"], **study("faster").context())
    line = next(line for line in numbers.splitlines() if "{speculative-gamma4-greedy}{speedup}" in line)
    assert (
        "metrics/speculative-gamma4-greedy.json : runs[*].tokens over runs[*].rounds at the costs of brackets" in line
    )
    assert re.search(r"% autoregressive-draft-greedy predicted_speedup is not defined: no drafter", numbers)


def draft_of(gamma):
    drafter = {"name": "draft_model", "model": "draft"}
    return {"drafter": drafter, "schedule": {"name": "constant", "gamma": gamma}, "acceptance": 0.5}


def test_the_methods_name_what_is_run():
    methods = " ".join((ROOT / "paper/sections/methods.tex").read_text().split())
    rounds = duel._APART + duel._WHOLE
    for said in (
        f"A kind measured fewer than {costs.LEAST_BRACKETS} times lies on the straight line",
        f"when blocks of {costs._BLOCK} consecutive parts, or shorter ones",
        f"grow by a third, the first of at least {duels.FIRST_LOOK},",
        f"the error of the text is taken {100 * (duels._LOOKING - 1):.0f}\\% larger",
        f"as many on either side as the part is long, but at most {duel._LONGEST}",
        f"Of every {rounds} rounds of a duel {duel._WHOLE} are left whole",
        f"after the first {contest._LEAST_DUELLED} prompts one is duelled only",
        f"while the costs make up more than {100 * contender.MACHINE_SHARE:g}\\% of the variance",
        f"of a prompt the first {duel.FIRST_ROUNDS} rounds are duelled",
        f"all of them where the costs make up more than {100 * contender.MOSTLY_MACHINE:g}\\%",
        f"Prompts that are only counted are decoded up to {contest._TOGETHER} in a batch",
        f"the precision asked for, {100 * contest._NO_MATTER:g}\\%, and",
        f"the {100 * (1 - 1 / contest._ONCE_IN):g}\\% interval of the ratio",
    ):
        assert said in methods


def test_the_methods_name_the_intervals_that_are_made():
    methods = " ".join((ROOT / "paper/sections/methods.tex").read_text().split())
    assert f"Intervals are {100 * CONFIDENCE:g}\\% intervals on the logarithmic scale" in methods
    assert f"may miss with a $k$-th of those {100 * (1 - CONFIDENCE):g}\\% only" in methods
    assert f"fewer than {('no', 'one', 'two', 'three')[FEWEST]} units there is none" in methods


def test_a_biased_control_is_said_aloud():
    control = synthetic.speed("autoregressive-target-greedy", sampling="greedy", speedup=1.1, scatter=0.01)
    assert r"does \emph{not} contain one" in text_of(results_of([control]), "text/speed")
    assert "contains one, as it should" in text_of(study("faster"), "text/speed")


def test_a_disturbed_machine_is_said_in_the_last_sentence_of_the_abstract():
    control = synthetic.speed("autoregressive-target-greedy", sampling="greedy", speedup=1.1, scatter=0.01)
    assert text_of(results_of([control]), "text/abstract").endswith(
        "the baseline timed against itself, does not contain one."
    )
    assert "too disturbed" not in text_of(study("faster"), "text/abstract")
    assert "everything else on the machine kept 0.03 cores busy" in text_of(study("faster"), "text/setup")


def test_an_unexplained_difference_is_said_aloud_everywhere():
    bad = {"compared": 12, "equal": 10, "explained": 1, "unexplained": 1}
    other = {"drafter": {"name": "prompt_lookup"}, "schedule": {"name": "constant", "gamma": 4}}
    results = results_of([synthetic.speed("lookup", sampling="greedy", lossless=bad, **other)])
    assert "one comparison differs" in text_of(results, "text/losslessness")
    assert "not shown to be lossless" in text_of(results, "text/losslessness")
    assert "not those of a lossless method" in text_of(results, "text/abstract")
    good = text_of(study("faster"), "text/losslessness")
    assert "No difference is left unexplained" in good
    assert "2 first differ at a place where rounding explains it" in good
    assert "of target by up to 0.34 in 416 rows" in text_of(study("whole"), "text/losslessness")


def test_a_press_below_the_full_cache_is_doubted():
    results = results_of([synthetic.perplexity("knorm", "bible", harm=-0.2)])
    assert "calls for an explanation before it is believed" in text_of(results, "text/perplexity")


def test_presses_are_ranked_only_when_all_points_agree():
    assert "the lower at none: StreamingLLM is the better press throughout" in text_of(
        study("faster"), "text/perplexity"
    )
    even = [synthetic.perplexity(press, "bible", harm=0.2, scatter=0.05) for press in ("streaming_llm", "knorm")]
    assert "throughout" not in text_of(results_of(even), "text/perplexity")


def test_a_mixed_environment_is_reported():
    here, there = synthetic.speed("a"), synthetic.speed("b", sampling="greedy")
    there["environment"] = there["environment"] | {"cpu": "Another_CPU"}
    text = text_of(results_of([here, there]), "text/setup")
    assert "did not all run in one environment" in text
    assert "differ in cpu" in text
    assert "in this one environment" in text_of(study("faster"), "text/setup")


def test_the_setup_says_what_ended_measuring():
    wide, narrow = synthetic.speed("wide"), synthetic.speed("narrow")
    wide["ended"] |= {"by": "budget", "half_width": 0.12}
    wide["ended"]["precision"] = 0.1
    text = text_of(results_of([wide, narrow]), "text/setup")
    assert r"at most 5\% or 10\%, as the study asks of it" in text
    assert "Of 2 experiments, one reached that, one spent its budget; the half-widths lie between" in text
    assert r"between 3\% and 12\%." in text
    assert "Measuring an experiment" not in text_of(results_of([synthetic.draft()]), "text/setup")


def test_the_report_says_how_much_of_a_variance_is_the_machines():
    results = results_of([synthetic.speed("a", scatter=0.05)])
    cell = results.speed_of("a")["speedup"]
    assert 0 < cell.machine_share < 1
    assert f'<td class="right">{round(100 * cell.machine_share)}%</td>' in html_of(results, "all-speeds")


def claim_of(results, name):
    return next(claim for claim in results.claims if claim["id"] == name)


def verdict_of(metrics, name):
    return claim_of(results_of(metrics), name)["verdict"]


HOLDS, FAILS, OPEN = "holds here", "does not hold here", "not decidable here"


@pytest.mark.parametrize("name", ["speculative", "dynamic", "cascade", "streaming", "fusion"])
def test_a_claim_that_nothing_measures_is_not_decidable_and_says_so(name):
    claim = claim_of(results_of([synthetic.draft()]), name)
    assert claim["verdict"] == OPEN
    assert "this study does not measure" in claim["reason"]


@pytest.mark.parametrize(("speedup", "scatter", "verdict"), [(2.8, 0.02, HOLDS), (1.4, 0.02, FAILS), (2.5, 0.3, OPEN)])
def test_the_claim_of_speculative_decoding(speedup, scatter, verdict):
    drafter = {"drafter": {"name": "draft_model", "model": "draft"}, "schedule": {"name": "constant", "gamma": 4}}
    metrics = [synthetic.speed("a", speedup=speedup, scatter=scatter, acceptance=0.5, **drafter)]
    assert verdict_of(metrics, "speculative") == verdict


@pytest.mark.parametrize(("gain", "scatter", "verdict"), [(1.06, 0.01, HOLDS), (1.0, 0.01, FAILS), (1.03, 0.3, OPEN)])
def test_the_claim_of_the_dynamic_draft_length(gain, scatter, verdict):
    draft_model = {"drafter": {"name": "draft_model", "model": "draft"}, "acceptance": 0.5}
    constant, aimd = {"name": "constant", "gamma": 4}, {"name": "aimd", "initial": 4, "floor": 4}
    metrics = [
        synthetic.speed("constant", speedup=1.4, scatter=scatter, schedule=constant, **draft_model),
        synthetic.speed("aimd", speedup=1.4 * gain, scatter=scatter, schedule=aimd, **draft_model),
    ]
    assert verdict_of(metrics, "dynamic") == verdict
    said = {HOLDS: "which is a gain", FAILS: "which is neither", OPEN: "which is neither"}[verdict]
    assert said in text_of(results_of(metrics), "text/dynamic")


@pytest.mark.parametrize(("cascade", "verdict"), [(0.8, HOLDS), (1.4, FAILS), (1.5 / 1.4, OPEN)])
def test_the_claim_of_the_cascade(cascade, verdict):
    assert verdict_of(synthetic.fusion(cascade=cascade), "cascade") == verdict


def test_a_cascade_on_prompt_lookup_decides_nothing_about_a_cascade_of_models():
    metrics = synthetic.fusion()
    for item in metrics:
        if item["id"].startswith("cascade"):
            item["spec"]["drafter"] = item["spec"]["drafter"] | {"drafter": {"name": "prompt_lookup"}}
    assert verdict_of(metrics, "cascade") == OPEN


@pytest.mark.parametrize(
    ("speedup", "harm", "verdict"),
    [(8.0, 0.4, HOLDS), (1.6, 0.4, FAILS), (6.48, 0.4, OPEN), (8.0, 0.0, OPEN), (8.0, -0.4, FAILS)],
)
def test_the_claim_of_the_fusion_has_two_halves(speedup, harm, verdict):
    metrics = [synthetic.perplexity("streaming_llm", "wikipedia", harm=harm, scatter=0.02)]
    results = results_of([*synthetic.fusion(speedup=speedup), *metrics])
    assert claim_of(results, "fusion")["verdict"] == verdict
    assert "perplexity relative to the full cache" in claim_of(results, "fusion")["evidence"]


def test_half_a_claim_that_is_not_measured_leaves_it_open():
    claim = claim_of(results_of(synthetic.fusion(speedup=8.0)), "fusion")
    assert claim["verdict"] == OPEN
    assert claim["reason"] == "there is no interval of the relative perplexity"


@pytest.mark.parametrize(
    ("harms", "verdict"),
    [({"knorm": 0.4, "tova": 0.3}, HOLDS), ({"knorm": 0.4, "tova": 0.1}, FAILS), ({"knorm": 0.4, "tova": 0.2}, OPEN)],
)
def test_the_claim_about_long_contexts_is_decided_on_long_contexts(harms, verdict):
    metrics = [synthetic.perplexity(press, "bible", harm=harm) for press, harm in harms.items()]
    metrics.append(synthetic.perplexity("streaming_llm", "bible", harm=0.2))
    short = claim_of(results_of(metrics), "streaming")
    assert short["verdict"] == OPEN
    assert "longest context measured" in short["evidence"]
    for metric in metrics:
        metric["spec"]["context"] = 4096
    assert verdict_of(metrics, "streaming") == verdict


def test_settings_that_contradict_each_other_leave_a_claim_open():
    yes, no, maybe = Verdict(HOLDS, "a"), Verdict(FAILS, "b"), Verdict(OPEN, "c")
    assert everywhere([yes, yes]).verdict == HOLDS
    assert everywhere([yes, maybe]).verdict == OPEN
    assert everywhere([no, maybe]).verdict == FAILS
    assert everywhere([yes, no]) == Verdict(OPEN, "the settings contradict each other")
    assert everywhere([]).verdict == OPEN


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(1.01, 1.08, HOLDS), (1.01, 1.04, FAILS), (0.97, 1.02, FAILS), (0.97, 1.08, OPEN), (None, None, OPEN),
     (1.0, 1.08, OPEN), (1.01, 1.05, HOLDS), (0.97, 1.05, OPEN), (NAN, NAN, OPEN), (1.01, NAN, OPEN)],
)  # fmt: skip
def test_a_claimed_gain_needs_an_interval_above_one(low, high, expected):
    assert adds_about((low, high), 1.05).verdict == expected


def test_up_to_needs_one_setting_and_fails_with_all():
    assert reaches([(1.0, 1.1), (2.6, 2.7)], 2.5).verdict == HOLDS
    assert reaches([(1.0, 1.1), (2.4, 2.7)], 2.5).verdict == OPEN
    assert reaches([(1.0, 1.1), (None, None)], 2.5).verdict == OPEN
    assert reaches([(1.0, 1.1), (2.3, 2.4)], 2.5).verdict == FAILS
    assert reaches([(2.5, 2.7)], 2.5).verdict == reaches([(2.4, 2.5)], 2.5).verdict == OPEN  # an end that touches
    assert reaches([(1.0, 1.1), (NAN, NAN)], 2.5) == Verdict(OPEN, "a setting has no interval")
    assert reaches([(NAN, NAN)], 2.5) == reaches([], 2.5) == Verdict(OPEN, "there is no interval")


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [({"a": (1.1, 1.2)}, (HOLDS, "every other")), ({"a": (1.0, 1.2)}, (OPEN, "not told apart from a")),
     ({"a": (0.8, 1.0)}, (OPEN, "not told apart from a")), ({"a": (0.8, 0.9), "b": (NAN, NAN)}, (FAILS, "better: a")),
     ({"a": (1.1, 1.2), "b": (NAN, NAN)}, (OPEN, "no interval for b")), ({}, (OPEN, "no other"))],
)  # fmt: skip
def test_the_best_of_all_beats_every_other_and_there_must_be_one(ratios, expected):
    found = best_of_all(ratios.values(), ratios)
    assert found.verdict == expected[0]
    assert expected[1] in found.reason


def test_the_evidence_for_up_to_is_the_setting_that_decides():
    drafter = {"drafter": {"name": "draft_model", "model": "draft"}, "acceptance": 0.5}
    wide, sure = {"speedup": 3.2, "scatter": 0.8}, {"speedup": 2.8, "scatter": 0.02}
    metrics = [
        synthetic.speed(name, schedule={"name": "constant", "gamma": gamma}, **found, **drafter)
        for name, gamma, found in (("wide", 2, wide), ("sure", 4, sure))
    ]
    claim = claim_of(results_of(metrics), "speculative")
    assert claim["verdict"] == HOLDS
    assert "of 2 settings of a draft model" in claim["evidence"]
    assert '<data value="sure/speedup">' in claim["evidence"]
    assert "over 12 prompts" in claim["evidence"]


@pytest.mark.parametrize("options", [{}, {"speedup": 8.0, "cascade": 1.4}, {"cascade": 1.5 / 1.4}])
def test_abstract_conclusion_and_table_tell_the_same_verdicts(options):
    results = results_of(synthetic.whole_study(presses=("streaming_llm", "knorm"), **options))
    conclusion, table = text_of(results, "text/conclusion"), text_of(results, "tables/claims")
    for claim in results.claims:
        told = [part for part in conclusion.split(". ") if escape(claim["short"]) in part]
        assert [re.search(r"\\textbf\{(.+?)\}", part)[1] for part in told] == [claim["verdict"]]
        assert table.count(f"\\textbf{{{claim['verdict'].capitalize()}}}") == [
            other["verdict"] for other in results.claims
        ].count(claim["verdict"])
    counts = str(verdict_counts(results.claims))
    assert counts in text_of(results, "text/abstract")
    assert counts in conclusion
    assert "decides nothing about Pythia-2.8B on a GPU" in conclusion


def test_verdicts_are_counted_in_words():
    claims = [{"verdict": HOLDS}, {"verdict": HOLDS}, {"verdict": FAILS}, {"verdict": OPEN}, {"verdict": OPEN}]
    assert verdict_counts(claims) == "two hold here, one does not hold here and two are not decidable here"


# Fusion, regime, chain


def test_every_kind_of_experiment_has_its_rows_and_figures_in_the_text():
    results = study("whole")
    fusion = text_of(results, "tables/fusion")
    assert "Draft model, AIMD from $\\gamma$ = 4 + StreamingLLM 70\\%" in fusion
    assert "Self-speculation, StreamingLLM 70\\%" in fusion
    assert "6.48" in fusion.split("Reported by the original study")[1]
    dynamic = text_of(results, "tables/dynamic")
    assert "Cascade" in dynamic
    assert "400.52" in dynamic.split("Reported by the original study")[1]
    assert "The gain is largest" in text_of(results, "text/regime")
    assert "The largest single factor is" in text_of(results, "text/chain")
    assert "from the step ``cached speculation''" in text_of(results, "text/chain")


def test_trees_stand_beside_paths():
    results = results_of([*synthetic.fusion(), *synthetic.trees()])
    text, table = (text_of(results, name) for name in ("text/trees", "tables/trees"))
    assert "the fastest tree, \\emph{suffix lookup + warm token recycling, 8 nodes}," in text
    assert "\\emph{suffix lookup + warm token recycling as a path, 8 nodes}" not in text
    assert "spent on a path of the likeliest tokens, which is a gain" in text
    assert "Of these drafters 3 run no model and need no training" in text
    assert "Suffix lookup + warm token recycling as a path, 8 nodes" in table
    assert "Draft model + suffix lookup + warm token recycling, up to 16 nodes while they pay" in table
    assert "\\label{fig:tree-size}" in text
    assert "Trees" not in text_of(results, "text/speed")


def test_a_tree_that_gains_nothing_over_its_path_is_said_to():
    text = text_of(results_of(synthetic.trees(over_path=0.8)), "text/trees")
    assert "spent on a path of the likeliest tokens, which is a loss" in text


def test_a_study_without_trees_says_so():
    assert text_of(results_of(synthetic.fusion()), "text/trees").strip() == "This study holds no experiment with trees."


def test_a_lossy_method_carries_the_price_of_its_press_and_a_lossless_one_none():
    results = study("whole")
    lossy = results.speed_of("lossy-greedy")
    price = results.quality_of(lossy.row)
    assert (price.experiment, price.suffix) == ("perplexity-streaming_llm-wikipedia", "@0.7")
    assert results.quality_of(results.speed_of("self-greedy").row) is None
    assert {speed.kind for _, speed in results.best_lossless} <= {
        "constant",
        "other",
        "tree",
        "dynamic",
        "block",
        "cascade",
        "self",
    }


def test_the_chain_sets_its_end_against_the_cached_baseline():
    slow_end = (*synthetic.STEPS[:-2], ("press", "press", 30.0, 4, 0.4), ("baseline", "cached baseline", 24.0, 0, None))
    for steps, says in ((synthetic.STEPS, "is faster than"), (slow_end, "is slower than")):
        text = text_of(results_of([synthetic.chain(steps=steps, prompts=8)]), "text/chain")
        assert f"The last step {says} the cached baseline, which is no step of the chain" in text
        assert "over 8 prompts" in text
        assert "``cached baseline''" not in text


@pytest.mark.parametrize(
    ("scale", "says"),
    [
        ({}, "pays nowhere on this map"),
        ({(1, 512): 0.5}, "It pays, without changing the output, in 1 of 4 cells, loses in 3."),
        ({(1, 512): None}, "not shown to pay anywhere on this map: it loses in 3 of 4 cells"),
    ],
)
def test_the_map_counts_the_cells_in_which_a_method_pays(scale, says):
    regime = synthetic.regime(batches=(1, 4))
    for cell in regime["cells"]:
        factor = scale.get((cell["batch"], cell["context"]), 1.5)
        scatter = [factor] * 3 if factor else [0.5, 1.0, 2.0]
        pressed, verification = ("pressed", 1), ("verification", 4)
        cost = costs.costs(costs.Brackets.from_columns(cell["brackets"]), [pressed, verification])
        round_ = regime["spec"]["gamma"] * cost[pressed] + cost[verification]
        cell["self_tokens_per_iteration"] = [round_ / by for by in scatter]
    text = text_of(results_of([regime, synthetic.machine()]), "text/regime")
    assert says in text
    assert "Of the intervals of 4 cells, 3 lie entirely above one and none entirely below" in text


def test_presses_are_compared_as_drafters_at_one_ratio():
    long = {"steps": True, "context": 4096, "scatter": 0.001}
    metrics = [
        synthetic.perplexity(press, "bible", harm=harm, **long) for press, harm in (("snapkv", 0.1), ("knorm", 0.5))
    ]
    text = text_of(results_of(metrics), "text/fusion")
    assert "With 70\\% removed on the King James Bible with 4096 tokens of context, it is highest for SnapKV" in text
    assert "lowest for Knorm" in text
    assert "the interval of the second, Knorm, lies below that of the first" in text


@pytest.mark.parametrize(("gain", "doubted"), [(0.02, False), (0.5, True)])
def test_a_gain_beyond_the_traffic_it_saves_is_not_put_down_to_traffic(gain, doubted):
    press = synthetic.perplexity("knorm", "bible", steps=True, gain=gain, scatter=0.001)
    text = text_of(results_of([press]), "text/perplexity")
    assert "Were a byte of the cache as cheap to read as one of the weights, it could be at most 1.0" in text
    assert ("what attention costs beyond its bytes" in text) == doubted


def test_the_limits_name_the_fewest_units_an_interval_rests_on():
    metrics = [synthetic.speed("a", prompts=12), synthetic.chain(prompts=4)]
    metrics[1]["steps"][1]["runs"][0] |= {"tokens": 0, "rounds": []}
    text = text_of(results_of(metrics), "text/limits")
    assert "as few as 3 prompts" in text
    assert "not for what no unit shows" in text
    assert "Few units" not in text_of(results_of([synthetic.speed("a", prompts=1)]), "text/limits")


def test_single_sequences_come_before_batches_and_short_prompts_before_long_ones():
    sizes = {"long": {"prompt_tokens": 4096}, "batch": {"batch": 4}, "short": {}}
    metrics = [synthetic.speed(name, **size) for name, size in sizes.items()]
    assert [block.speeds[0].experiment for block in results_of(metrics).blocks] == ["short", "batch", "long"]


def test_notes_that_count_units_share_a_line():
    notes = Notes()
    for text in ("1 of 8 prompts without a value: too short", "a formula", "1 of 4 prompts without a value: too short"):
        notes.mark(text)
    assert notes.lines() == [("a, c", "1 of 8, 1 of 4 prompts without a value: too short"), ("b", "a formula")]


def test_ten_presses_by_five_ratios_stay_two_tables():
    results = study("whole")
    main, everything = text_of(results, "tables/presses"), html_of(results, "all-presses")
    for name in ("StreamingLLM", "Hybrid conservative", "Random"):
        assert main.count(f"{name} &") == 2  # two ratios; two texts and a long context stand side by side
        assert everything.count(f">{name}</td>") == 4 + 4 + 2
    assert everything.count("Full cache") == 3
    measured = main.split("Reported by the original study")[0].split("70\\% removed")[1]
    assert measured.index("StreamingLLM &") < measured.index("Knorm &") < measured.index("Random &")


def test_a_press_under_a_budget_is_told_apart_from_one_applied_once():
    text = text_of(study("whole"), "text/perplexity")
    assert "Of 80 combinations with both, 80 have a higher perplexity while decoding" in text
    assert "Perplexity after one compression hides this cost." in text
    once = results_of([synthetic.perplexity("knorm", "bible")])
    assert "which is not measured here" in text_of(once, "text/perplexity")


def test_the_tables_hold_measured_and_reported_rows_apart():
    table = text_of(study("faster"), "tables/speed")
    measured, reported = table.split("Reported by the original study, not measured here")
    assert r"Draft model, $\gamma$ = 4" in measured
    assert r"Draft model, $\gamma$ = 8" not in measured  # neither the fastest nor the original study's length
    assert "Draft model, γ = 8" in html_of(study("faster"), "all-speeds")
    assert "268.51" in reported
    assert "268.51" not in measured
    assert r"no drafter: nothing to predict" in table
    presses = text_of(study("faster"), "tables/presses")
    assert "508.71" in presses.split("Reported by the original study")[1]


def test_what_the_weights_of_a_model_cost_is_said_with_its_interval():
    metrics = synthetic.perplexity(
        "knorm", "bible", ratios=(0,), identifier="four-bits", model="small", baseline="target"
    )
    del metrics["spec"]["press"]
    nll = np.array(metrics["curve"][0]["nll"])
    wave = np.linspace(-0.01, 0.01, len(nll)) * 255
    metrics["reference"] = {"nll": (nll - 0.05 * 255 + wave).tolist(), "n_tokens": metrics["curve"][0]["n_tokens"]}
    results = results_of([metrics])
    [(_, cost)] = results.model_costs
    assert cost.value == pytest.approx(np.exp(0.05), abs=1e-3)
    assert cost.low < cost.value < cost.high
    text = text_of(results, "text/perplexity")
    assert "the perplexity of small on the King James Bible is" in text
    assert "times that of target, over" in text
    assert "holds no perplexity experiment" not in text


def test_a_study_without_experiments_of_a_kind_says_so():
    speed_only = results_of([synthetic.speed("a")])
    assert "holds no perplexity experiment" in text_of(speed_only, "text/perplexity")
    assert "no experiment with a drafter" in text_of(speed_only, "text/abstract")
    assert text_of(speed_only, "text/drafts") == ""
    quality_only = results_of([synthetic.perplexity("knorm", "bible", ratios=(0.5,))])
    assert "holds no speed experiment" in text_of(quality_only, "text/speed")
    assert "no ratio to the full cache for Knorm: ratio 0 was not measured" in text_of(quality_only, "text/perplexity")
    for name in set(TEMPLATES) - {"numbers"}:
        text_of(speed_only, name)
        text_of(quality_only, name)


def test_names_from_a_configuration_cannot_break_the_latex():
    nasty = synthetic.perplexity("odd_press%", "my_data#1", identifier="a_b%c")
    assert r"my data\#1" in text_of(results_of([nasty]), "tables/presses")
    assert ("a_b-c@0.9", "ppl") in dict(definitions(results_of([nasty])))


# The document


@pytest.mark.skipif(shutil.which("latexmk") is None, reason="needs LaTeX")
@pytest.mark.parametrize("name", ["whole", "tiny"])
def test_the_paper_builds_without_warnings_or_wide_boxes(name, tmp_path):
    log = build(study(name), tmp_path)
    wide = [float(width) for width in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert [width for width in wide if width > 2] == []
    assert "undefined" not in log
    assert int(re.search(r"Output written on .*?\((\d+) pages", log, flags=re.DOTALL)[1]) <= 14
    first = (tmp_path / "paper/main.pdf").read_bytes()
    assert latexmk(tmp_path, "-g").returncode == 0
    assert (tmp_path / "paper/main.pdf").read_bytes() == first  # byte for byte, whenever it is built


@pytest.mark.skipif(shutil.which("latexmk") is None, reason="needs LaTeX")
def test_a_number_that_is_not_defined_stops_the_build(tmp_path):
    generate(study("tiny"), tmp_path)
    (tmp_path / "numbers.tex").write_text("% none\n")
    finished = latexmk(tmp_path)
    assert finished.returncode != 0
    assert "is not defined" in (tmp_path / "paper/main.log").read_text(errors="replace")


def build(results, directory):
    generate(results, directory)
    finished = latexmk(directory)
    assert finished.returncode == 0, finished.stdout[-3000:]
    return (directory / "paper/main.log").read_text(errors="replace")


def generate(results, directory):
    """Render every template into `directory`, and put a stand-in for every figure there."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    for name in TEMPLATES:
        path = directory / f"{name}.tex"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rendered(results, name))
    (directory / "figures").mkdir()
    for name in [*CONTENTS["figures"], *CONTENTS["graphs"]]:
        figure = plt.figure(figsize=(6.3, 2))
        figure.savefig(directory / f"figures/{name}.pdf", metadata={"CreationDate": None})
        plt.close(figure)


def latexmk(directory, *extra):
    folders = {"TEXINPUTS": f"paper:{directory}:", "BIBINPUTS": f"{ROOT}/paper:"}
    fixed = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1", "max_print_line": "10000"}  # of a line of the log
    options = ["-pdf", "-Werror", "-interaction=nonstopmode", "-halt-on-error", "-file-line-error"]
    command = ["latexmk", *extra, *options, f"-outdir={directory}/paper", "paper/main.tex"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | folders | fixed, capture_output=True, text=True)


def test_the_renderer_and_the_figures_never_import_torch(tmp_path):
    metrics = [item | {"file": "x.json"} for item in synthetic.tiny_study()]
    table = tmp_path / "summary.csv"
    summary(metrics).to_csv(table, index=False)
    pd.DataFrame({"kind": [], "metric": [], "value": []}).to_csv(tmp_path / "observations.csv", index=False)
    (tmp_path / "environment.json").write_text('{"common": {}, "different": {}, "mixed": [], "models": {}, "data": {}}')
    render_arguments = ["--template", TEMPLATES["tables/speed"], "--summary", str(table)]
    render_arguments += ["--environment", str(tmp_path / "environment.json"), "--output", str(tmp_path / "t.tex")]
    render_arguments += ["--original", "paper/original.yaml", "--sources", "paper/sources.yaml", "--table", "speed"]
    render_arguments += ["--captions", "paper/captions.yaml"]
    runs = [("scripts/render_template.py", render_arguments)]
    for name, figure in CONTENTS["figures"].items():
        arguments = [
            f"--{figure['reads']}",
            str(tmp_path / f"{figure['reads']}.csv"),
            "--style",
            "paper/style.mplstyle",
        ]
        arguments += ["--output-pdf", str(tmp_path / f"{name}.pdf"), "--output-svg", str(tmp_path / f"{name}.svg")]
        runs.append((figure["script"], arguments))
    program = (
        f"import runpy, sys\nfor script, arguments in {runs!r}:\n    sys.argv = [script, *arguments]\n"
        "    try:\n        runpy.run_path(script, run_name='__main__')\n"
        "    except SystemExit as ended:\n        assert not ended.code, script\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
    assert "Draft model" in (tmp_path / "t.tex").read_text()
    assert all((tmp_path / f"{name}.{kind}").stat().st_size for name in CONTENTS["figures"] for kind in ("pdf", "svg"))
