"""The check of a GPU on the CPU at a tiny size: the script works, says what is wrong, and can be taken up again."""

import json

import pytest
from benchmark_scripts import benchmark

from specpress.engine.graphs import StaticSteps

TINY = ["--device", "cpu", "--tiny"]


@pytest.fixture(scope="module")
def script():
    return benchmark("gpu_check")


@pytest.fixture
def run(script, monkeypatch, tmp_path):
    def main(*arguments):
        output = tmp_path / "check.json"
        monkeypatch.setattr("sys.argv", ["gpu_check.py", *TINY, "--output", str(output), *arguments])
        return script.main(), json.loads(output.read_text())

    return main


def test_every_section_runs_and_everything_is_right(run, script, capsys):
    code, record = run()
    assert (code, record["failed"]) == (0, {})
    json.dumps(record, allow_nan=False)
    assert list(record["seconds"]) == list(script.SECTIONS)
    assert {row["section"] for row in record["rows"]} == set(script.SECTIONS)
    assert all(row["right"] is not False for row in record["rows"])
    assert sum(row["right"] is True for row in record["rows"]) > 25
    assert "open an issue" in capsys.readouterr().out


def test_a_wrong_result_and_a_broken_section_cost_the_exit_code_but_no_other_section(run, script, monkeypatch, capsys):
    def broken(check):
        yield script.Row("so far", "", "1")
        raise RuntimeError("no kernel image")

    monkeypatch.setitem(script.SECTIONS, "steps", broken)
    monkeypatch.setattr("gpu_sections.correctness.verify_on_device", lambda *arguments: (99, []))
    code, record = run("--only", "steps,laws,rates")
    assert code == 1
    assert "no kernel image" in record["failed"]["steps"]
    wrong = [row["name"] for row in record["rows"] if row["right"] is False]
    assert wrong
    assert all(name.startswith("rounds decided otherwise") for name in wrong)
    assert [row["name"] for row in record["rows"] if row["section"] == "rates"]
    assert "again: --only steps" in capsys.readouterr().out


def test_wrong_graphs_are_seen(run, monkeypatch):
    right = StaticSteps.feed
    monkeypatch.setattr(StaticSteps, "feed", lambda *arguments: right(*arguments).roll(1, -1))
    code, record = run("--only", "tiny,logits")
    wrong = {row["name"] for row in record["rows"] if row["right"] is False}
    assert code == 1
    assert "texts as on the CPU, graphs" in wrong
    assert any(name.startswith("graph against eager") for name in wrong)
    assert "texts as on the CPU, eager" not in wrong


def test_out_of_time_says_what_is_left(run):
    code, record = run("--seconds", "0", "--only", "tiny,rates")
    assert code == 1
    assert record["failed"] == {"tiny": "out of time", "rates": "out of time"}


def test_unknown_sections_are_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--only", "tiny,stepz")
    assert "unknown sections: stepz; known: versions, tiny" in capsys.readouterr().err
