import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specpress.paper.rendering import (
    DASH,
    Tex,
    escape,
    fixed,
    integer,
    is_missing,
    large,
    number,
    percent,
    render,
    significant,
    size,
    template_environment,
    unit_of_sizes,
)


def rendered(source, tmp_path, **context):
    return template_environment(tmp_path).from_string(source).render(**context)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50% of #1 & $2_x", r"50\% of \#1 \& \$2\_x"),
        (r"\input{a}", r"\textbackslash{}input\{a\}"),
        ("~^<>", r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}"),
        ("γ = 4 ×", r"$\gamma$ = 4 $\times$"),
        ("naïve Łódź", "naïve Łódź"),
        ("漢\x00\n", "???"),
    ],
)
def test_what_latex_minds_is_escaped(text, expected):
    assert escape(text) == expected


def test_what_is_latex_already_is_left_alone():
    assert escape(Tex(r"\emph{a}")) == r"\emph{a}"
    assert escape(escape("a_b")) == r"a\_b"


@given(st.text())
def test_no_text_can_start_a_command_or_a_comment(text):
    escaped = escape(text)
    for char in "%#&_":
        assert escaped.count(char) == escaped.count("\\" + char)


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [(0.012345, 3, "0.0123"), (41.27, 3, "41.3"), (1234.5, 3, "1234"), (9.996, 3, "10.0"), (0.0, 3, "0.00"),
     (-0.5, 2, "$-$0.50")],
)  # fmt: skip
def test_significant_digits(value, digits, expected):
    assert significant(value, digits) == expected


@given(st.floats(1e-6, 1e6), st.integers(2, 4))
def test_a_rounded_number_is_off_by_half_a_digit_at_most(value, digits):
    assert float(significant(value, digits)) == pytest.approx(value, rel=0.5 * 10 ** (1 - digits) + 1e-9)


def test_formats_by_metric():
    assert number("speedup", 1.23456) == "1.235"
    assert number("ttft_s", 0.0512) == "51.2"
    assert number("kv_bytes", 23592960) == "22.5~MiB"
    assert number("parameters", 134_515_008) == "135~million"
    assert number("ppl", 12.346) == "12.35"


def test_whole_numbers_and_shares():
    assert integer(1234) == "1234"
    assert integer(45_000_000) == r"45\,000\,000"
    assert large(2_775_208_960) == "2.78~billion"
    assert percent(0.7) == r"70\%"
    assert size(512) == "512~bytes"


def test_a_column_of_sizes_has_one_unit():
    assert unit_of_sizes([2048, 3 * 2**20, None]) == ("MiB", 2**20)
    assert unit_of_sizes([]) == ("bytes", 1)


@pytest.mark.parametrize("formatted", [fixed, significant, integer, percent, size, large])
@pytest.mark.parametrize("missing", [None, float("nan"), jinja2.Undefined()])
def test_what_is_missing_is_a_dash_in_every_format(formatted, missing):
    assert is_missing(missing)
    assert formatted(missing) == DASH


def test_templates_escape_values_and_keep_latex(tmp_path):
    source = r"\textbf{(((name)))} ((* if more *))((( more )))((* endif *))((= unseen =)) % {{ }} {% %}"
    assert rendered(source, tmp_path, name="a_b", more=Tex("$x$")) == r"\textbf{a\_b} $x$ % {{ }} {% %}"


def test_a_missing_value_in_a_template_is_a_dash(tmp_path):
    assert rendered("(((value)))", tmp_path, value=None) == DASH


def test_a_float_without_a_format_is_an_error(tmp_path):
    with pytest.raises(TypeError, match="use a number filter"):
        rendered("(((value)))", tmp_path, value=1.5)
    assert rendered("(((value|fixed(1))))", tmp_path, value=1.5) == "1.5"


def test_a_name_that_is_not_defined_is_an_error(tmp_path):
    with pytest.raises(jinja2.UndefinedError, match="absent"):
        rendered("(((absent)))", tmp_path)


def test_render_reads_the_template_file(tmp_path):
    (tmp_path / "t.tex.j2").write_text("((* for x in xs *))\n(((x)))\\\\\n((* endfor *))\nend\n")
    assert render(tmp_path / "t.tex.j2", xs=[1, 2]) == "1\\\\\n2\\\\\nend\n"
