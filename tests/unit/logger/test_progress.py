import json
import logging
from types import SimpleNamespace
from unittest import mock

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

import snakemake_logger_plugin_specpress as progress


@pytest.fixture
def handler(monkeypatch):
    handler = progress.LogHandler(SimpleNamespace(dryrun=False), None)
    handler.clock = 0
    monkeypatch.setattr(progress.time, "monotonic", lambda: handler.clock)
    return handler


def event(handler, kind, **fields):
    record = logging.makeLogRecord({"event": kind, "levelno": logging.INFO, **fields})
    handler.emit(record)


def begin(handler, jobid, rule, path, **wildcards):
    event(handler, LogEvent.JOB_INFO, jobid=jobid, rule_name=rule, wildcards=wildcards, output=[str(path)])


def test_lines_tell_what_is_measured_k_of_n_result_and_time_left(handler, tmp_path, capsys):
    metrics = tmp_path / "a.json"
    metrics.write_text(json.dumps({"kind": "speed", "ended": {"speedups": [1.2512]}}))
    event(handler, LogEvent.RUN_INFO, stats={"run_experiment": 11, "plot_figure": 3, "total": 14})
    begin(handler, 1, "run_experiment", metrics, experiment="a")
    begin(handler, 2, "plot_figure", tmp_path / "figure.svg", figure="b")
    event(handler, LogEvent.JOB_FINISHED, job_id=2)
    handler.clock = 30
    event(handler, LogEvent.JOB_FINISHED, job_id=1)
    begin(handler, 3, "run_experiment", tmp_path / "c.json", experiment="c")
    assert capsys.readouterr().err.splitlines() == [
        ">> experiment 1 of 11: a ...",
        ">> experiment 1 of 11: a: 1.25x in 30 s, about 5 min left",
        ">> experiment 2 of 11: c ..., about 5 min left",
    ]


def test_time_left_is_by_kind_and_budget():
    """Not at the pace of the short ones, if these come first."""
    kinds = {"short": "perplexity", "tasks": "tasks", "speed": "speed"}
    specs = {f"{name}{i}": {"kind": kind} for name, kind in kinds.items() for i in (0, 1, 2)}
    for i in (0, 1, 2):
        specs[f"speed{i}"]["budget_seconds"] = 300 * (1 + i)
    pace = progress.Pace(specs)
    assert pace.left(9, ()) is None  # of tasks nothing is known
    for name, begun in (("short0", 0), ("short1", 0)):  # side by side
        pace.begin(name, begun)
    pace.end("short0", 20)
    pace.end("short1", 20)  # ten seconds of the run each
    pace.begin("tasks0", 20)
    pace.end("tasks0", 80)
    assert pace.left(6, ()) == pytest.approx(10 + 2 * 60 + 300 * (1 + 2 + 3))
    pace.begin("speed0", 80)
    pace.end("speed0", 230)  # half of its budget
    pace.begin("speed1", 230)
    pace.begin("draft", 240)
    pace.end("draft", 250)
    assert pace.left(4, ["short2"]) == pytest.approx(2 * 60 + (300 - 20) + 450)
    assert pace.left(2, ["short2"]) == pytest.approx((2 * 60 + (300 - 20) + 450) / 2)


def test_a_line_is_one_write_so_that_snakemakes_own_cannot_come_between_it_and_its_end(handler, tmp_path, monkeypatch):
    stream = mock.Mock()
    monkeypatch.setattr(progress.sys, "stderr", stream)
    event(handler, LogEvent.RUN_INFO, stats={"run_experiment": 1})
    begin(handler, 1, "run_experiment", tmp_path / "a.json", experiment="a")
    assert stream.write.call_args_list == [mock.call(">> experiment 1 of 1: a ...\n")]


def test_time_left_is_that_of_jobs_side_by_side(handler, tmp_path, capsys):
    event(handler, LogEvent.RUN_INFO, stats={"run_experiment": 4})
    for job in (1, 2):
        begin(handler, job, "run_experiment", tmp_path / "a.json", experiment="a")
    handler.clock = 60
    for job in (1, 2):
        event(handler, LogEvent.JOB_FINISHED, job_id=job)
    assert capsys.readouterr().err.splitlines()[-1].endswith("in 1 min, about 1 min left")


def test_chain_is_the_factor_over_all_its_steps(tmp_path):
    path = tmp_path / "chain.json"
    path.write_text(json.dumps({"kind": "chain", "ended": {"speedups": [0.5, 1.0, 1.5]}}))
    assert progress.headline(path) == "3.00x over all steps"


def test_perplexity_is_that_of_the_last_ratio(tmp_path):
    path = tmp_path / "ppl.json"
    curve = [{"ratio": ratio, "nll": [nll, nll], "n_tokens": [1, 1]} for ratio, nll in ((0, 1.0), (0.9, 2.0))]
    path.write_text(json.dumps({"kind": "perplexity", "curve": curve}))
    assert progress.headline(path) == "perplexity 7.39 at 90% removed"


@pytest.mark.parametrize(
    "text", ["not json", "{}", '{"kind": "speed", "ended": {"speedups": [null]}}', '{"kind": "other"}']
)
def test_result_without_a_headline_is_done(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert progress.headline(tmp_path / "a.json") == "done"
    assert progress.headline(tmp_path / "missing.json") == "done"


def test_dry_run_says_nothing(capsys):
    handler = progress.LogHandler(SimpleNamespace(dryrun=True), None)
    event(handler, LogEvent.RUN_INFO, stats={"run_experiment": 1})
    begin(handler, 1, "run_experiment", "a.json", experiment="a")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (90, "2 min"), (5400, "1.5 h")])
def test_duration(seconds, text):
    assert progress.duration(seconds) == text


CONTROL = {
    "kind": "speed", "spec": {"model": "target", "baseline": "target"},
    "lossless": {"compared": None, "why": "sampled"},
    "ended": {"by": "budget", "precision": 0.05, "half_width": 0.02, "speedups": [1.01]},
    "disturbance": {"other_cores": 1.02, "disturbed_steps": {"share": 0.4}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        (
            {"ended": {**CONTROL["ended"], "speedups": [0.92]}},
            "the baseline timed against itself is 0.920 times as fast",
        ),
        (
            {"ended": {**CONTROL["ended"], "half_width": 0.083}},
            "known to 8.3%, not to the 5% asked for; other programs used 1.02 cores meanwhile, 40% of the baseline's "
            "steps were disturbed",
        ),
        (
            {"lossless": {"compared": 8, "unexplained": 2}},
            "2 of its greedy texts differ by more than rounding explains",
        ),
        ({"ended": {**CONTROL["ended"], "half_width": None}}, None),
    ],
)
def test_what_is_left_in_doubt_is_said(tmp_path, changes, said):
    path = tmp_path / "control.json"
    path.write_text(json.dumps(CONTROL | changes))
    found = progress.doubts(path)
    assert len(found) == bool(said)
    assert not said or found[0].startswith(said)


def test_a_method_is_no_control(tmp_path):
    path = tmp_path / "method.json"
    ended = {**CONTROL["ended"], "speedups": [1.9]}
    path.write_text(json.dumps(CONTROL | {"ended": ended, "spec": {**CONTROL["spec"], "drafter": {"name": "x"}}}))
    assert progress.doubts(path) == []


def test_doubts_are_said_after_the_experiment_and_at_the_end_of_the_run(handler, tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(CONTROL | {"lossless": {"compared": 8, "unexplained": 2}}))
    event(handler, LogEvent.RUN_INFO, stats={"run_experiment": 2, "total": 3})
    begin(handler, 1, "run_experiment", path, experiment="a")
    event(handler, LogEvent.JOB_FINISHED, job_id=1)
    event(handler, LogEvent.PROGRESS, done=1, total=3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("!! experiment 1 of 2: a: 2 of its greedy texts")
    event(handler, LogEvent.PROGRESS, done=3, total=3)
    assert capsys.readouterr().err.startswith("!! a: 2 of its greedy texts")
