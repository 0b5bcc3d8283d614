import pytest
from stored import write_study

from specpress.cli.main import main
from specpress.provenance.archive import ArchiveError, open_results
from specpress.provenance.numbers import read_numbers


@pytest.fixture
def results(tmp_path):
    return write_study(tmp_path)


def explained(capsys, results, *name):
    status = main(["explain", *name, "--results", str(results)])
    out, err = capsys.readouterr()
    return status, out, err


def test_number_is_traced_to_its_metrics_spec_and_commit(results, capsys):
    status, out, _ = explained(capsys, results, "plain/speedup")
    lines = [line.strip() for line in out.splitlines()]
    assert status == 0
    assert lines[0] == "plain/speedup"
    for line in (
        "value        1.250 [1.125, 1.500]", "interval     95%, over 12 prompts", "unrounded    1.25 x",
        "computed as  pairs[*]: baseline.tpot_ms / method.tpot_ms", f"metrics      metrics/plain.json of {results}",
        "commit       0123abc", "max_new_tokens: 8",
    ):  # fmt: skip
        assert line in lines
    assert "Example CPU" in out
    assert "torch 2.13.0" in out


@pytest.mark.parametrize(("kind", "units"), [("perplexity", "passages"), ("tasks", "contexts"), ("chain", "prompts")])
def test_an_interval_says_what_it_rests_on(results, capsys, kind, units):
    table = results / "analysis/summary.csv"
    table.write_text(table.read_text().replace(",speed,x,", f",{kind},x,"))
    assert f"95%, over 12 {units}" in explained(capsys, results, "plain/speedup")[1]


def test_number_of_two_experiments_names_both_files(results, capsys):
    _, out, _ = explained(capsys, results, "aimd/speedup_over_reference")
    assert "metrics/aimd.json" in out
    assert "metrics/plain.json" in out


@pytest.mark.parametrize("part", ["low", "high", "n"])
def test_part_of_a_number_is_the_number(results, capsys, part):
    assert explained(capsys, results, f"plain/speedup/{part}")[1].startswith("plain/speedup\n")


def test_number_that_is_not_measured_says_why(results, capsys):
    _, out, _ = explained(capsys, results, "plain/predicted_speedup")
    assert "not measured: no drafter" in out
    assert "unrounded" not in out


def test_a_text_that_differs_is_shown_with_its_tokens_and_gaps(results, capsys):
    lines = [line.strip() for line in explained(capsys, results, "plain/lossless_explained")[1].splitlines()]
    assert lines[-3:] == [
        "difference   prompt 3, row 0, new token 17: explained",
        "baseline ' the' (260), method ' a' (253)",
        "logits apart by 0.3750 in bfloat16, 0.2260 in float32; rounding explains up to 0.3400",
    ]
    assert "difference" not in explained(capsys, results, "plain/speedup")[1]


def test_unknown_name_suggests_the_nearest(results, capsys):
    status, _, err = explained(capsys, results, "plain/spedup")
    assert status == 2
    assert "no number is called 'plain/spedup'; did you mean plain/speedup" in err
    assert "specpress explain lists" in explained(capsys, results, "zzz")[2]


def test_names_are_listed_all_or_by_pattern(results, capsys):
    listed = explained(capsys, results)[1].splitlines()
    assert [line.split()[0] for line in listed] == list(read_numbers(open_results(results)))
    assert [line.split() for line in explained(capsys, results, "aimd/*up")[1].splitlines()] == [
        ["aimd/speedup", "1.500", "[1.375,", "1.625]"]
    ]


def test_numbers_of_another_run_are_refused(results):
    summary = results / "analysis/summary.csv"
    summary.write_text(summary.read_text().replace("wall_seconds,12.5", "wall_minutes,12.5"))
    with pytest.raises(ArchiveError, match="of different runs"):
        read_numbers(open_results(results))


def test_unfinished_study_says_what_is_missing(results, capsys):
    (results / "numbers.tex").unlink()
    status, _, err = explained(capsys, results, "plain/speedup")
    assert status == 2
    assert "has no numbers.tex" in err


@pytest.mark.parametrize("damage", [b"", b"[]", b"null", b"{}", b"\xff", b'"\n', b"a,b\n1,2\n"])
@pytest.mark.parametrize("name", ["analysis/summary.csv", "analysis/environment.json", "metrics/plain.json"])
def test_a_damaged_file_of_the_results_is_named(results, capsys, name, damage):
    (results / name).write_bytes(damage)
    command = ["compare", str(results), str(results)] if "environment" in name else ["explain", "plain/speedup"]
    status = main(command + ([] if command[0] == "compare" else ["--results", str(results)]))
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith(f"specpress: {results}/{name} is ")
    assert error.endswith("remove it, then run make paper, or get the archive again\n")
    assert error.count("\n") == 1


def test_a_summary_that_is_cut_is_of_another_run(results, capsys):
    table = results / "analysis/summary.csv"
    table.write_text(table.read_text()[:-40])
    assert explained(capsys, results)[0] == 2
