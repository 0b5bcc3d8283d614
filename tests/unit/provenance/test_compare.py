import pytest
from stored import ROWS, write_study

from specpress.cli.main import main
from specpress.provenance.archive import open_results
from specpress.provenance.compare import compare
from specpress.provenance.numbers import read_numbers

FIELD = "pairs[*]: x"


def row(name, estimate, low=None, high=None):
    return (name, "speedup", estimate, low, high, 12, None, None, FIELD)


@pytest.fixture
def studies(tmp_path):
    """Two studies: disjoint rises, touching and overlapping do not, exact has no interval, each has one of its own."""
    first = [row("falls", 2.0, 1.9, 2.1), row("touches", 1.0, 0.9, 1.1), row("stays", 1.0, 0.9, 1.1),
             row("exact", 1.0), row("gone", 1.0, 0.9, 1.1)]  # fmt: skip
    second = [row("falls", 1.0, 0.9, 1.1), row("touches", 1.2, 1.1, 1.3), row("stays", 1.05, 0.95, 1.15),
              row("exact", 9.0), row("new", 1.0, 0.9, 1.1)]  # fmt: skip
    return [write_study(tmp_path / name, rows) for name, rows in (("a", first), ("b", second))]


def test_moved_means_disjoint_intervals(studies):
    comparison = compare(*(read_numbers(open_results(path)) for path in studies))
    assert [(pair.name, pair.ratio) for pair in comparison.moved] == [("falls/speedup", 0.5)]
    assert sum(pair.judged for pair in comparison.pairs) == 3
    assert [number.name for number in comparison.only_first] == ["gone/speedup"]
    assert [number.name for number in comparison.only_second] == ["new/speedup"]


def test_report_gives_both_values_and_their_ratio(studies, capsys):
    assert main(["compare", *map(str, studies)]) == 0
    out = capsys.readouterr().out
    assert "1 of 3 figures moved" in out
    assert "falls/speedup  2.000 [1.900, 2.100]  1.000 [0.900, 1.100]  0.5" in out
    assert "stays/" not in out
    assert "1 more are in both without an interval on each side" in out
    assert "only in A\n  gone: speedup" in out
    assert "only in B\n  new: speedup" in out
    assert "Example CPU" in out


def test_study_does_not_move_against_itself(tmp_path, capsys):
    path = str(write_study(tmp_path, ROWS))
    main(["compare", path, path])
    out = capsys.readouterr().out
    assert "0 of 3 figures moved" in out
    assert "only in" not in out


@pytest.mark.parametrize(("suffix", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_figure_has_the_format_its_name_says(studies, tmp_path, suffix, start):
    output = tmp_path / f"moved.{suffix}"
    assert main(["compare", *map(str, studies), "--plot", str(output)]) == 0
    assert output.read_bytes().startswith(start)
    if suffix == "svg":
        text = output.read_text()
        assert "falls/speedup" in text
        assert "touches/speedup" not in text


def test_figure_of_nothing_says_so(tmp_path):
    path = str(write_study(tmp_path))
    main(["compare", path, path, "--plot", str(tmp_path / "moved.svg")])
    assert "No figure moved" in (tmp_path / "moved.svg").read_text()


def test_unknown_format_is_refused(studies, tmp_path, capsys):
    assert main(["compare", *map(str, studies), "--plot", str(tmp_path / "moved.doc")]) == 2
    assert "the figure can be" in capsys.readouterr().err
