"""The first page of the report: what was found, in HTML."""

import re
from dataclasses import replace

import pytest
import synthetic
from test_paper import CONTENTS, ROOT, results_of, study

from specpress.paper.typesetting.rendering import render
from specpress.report.pages import Figure


def front(results, tmp_path):
    path = tmp_path / "pareto.svg"
    path.write_text("<svg/>")
    figure = Figure.read(path, results.all_captions["figures/pareto"])
    return render(ROOT / CONTENTS["report"]["front"]["template"], **results.context(), figure=figure)


def test_every_claim_has_its_verdict_and_every_block_its_fastest_method(tmp_path):
    results = study("faster")
    page = front(results, tmp_path)
    for claim in results.claims:
        verdict = claim["verdict"].capitalize()
        assert f"<td>{claim['claim']}</td><td><strong>{verdict}</strong>: {claim['reason']}.</td>" in page
    best = [speed for lossless in (True, False) for _, speed in results.fastest(lossless=lossless)]
    assert best
    for speed in best:
        assert speed["speedup"].cited in page
    assert page.count("is faster than the cached baseline") == len(best)


def test_control_machine_and_figure_are_shown(tmp_path):
    page = front(study("faster"), tmp_path)
    controls = study("faster").speeds_of("baseline")
    assert all(control["speedup"].cited in page for _, control in controls)
    assert "does not contain one" not in page
    assert study("faster").setup.machine() in page
    assert 'src="data:image/svg+xml;base64,PHN2Zy8+\n"' in page
    assert "<figcaption>Speed-up over the cached baseline against" in page


def test_a_biased_control_is_said(tmp_path):
    control = synthetic.speed("autoregressive-target-greedy", sampling="greedy", speedup=1.1, scatter=0.01)
    assert "which does not contain one" in front(results_of([control]), tmp_path)


@pytest.mark.parametrize("metrics", [[synthetic.draft()], [synthetic.perplexity("knorm", "bible", ratios=(0.5,))]])
def test_a_study_without_speed_experiments_says_so(metrics, tmp_path):
    page = front(results_of(metrics), tmp_path)
    assert "holds no speed experiment with a drafter or a press" in page
    assert "does not time the baseline against itself" in page


@pytest.mark.parametrize("name", ["tiny", "whole"])
def test_nothing_of_latex_is_left(name, tmp_path):
    assert re.findall(r"[\\{}$]", front(study(name), tmp_path)) == []


def test_what_comes_from_data_is_escaped(tmp_path):
    results = study("tiny")
    claims = [claim | {"claim": "a <b> & c"} for claim in results.original["claims"]]
    assert "a &lt;b&gt; &amp; c" in front(replace(results, original=results.original | {"claims": claims}), tmp_path)
