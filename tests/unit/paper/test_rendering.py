import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specpress.analysis.formatting import fixed, integer, number, percent, significant
from specpress.paper.rendering import Tex, escape, render, template_environment

DASH = "---"


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
    ("value", "expected"),
    [(number("kv_bytes", 23592960), "22.5~MiB"), (significant(-0.5, 2), "$-$0.50"), (percent(0.7), r"70\%"),
     (integer(45_000_000), r"45\,000\,000"), (fixed(None), DASH)],
)  # fmt: skip
def test_numbers_are_set_by_latex(value, expected):
    assert escape(value) == expected


def test_templates_escape_values_and_keep_latex(tmp_path):
    source = r"\textbf{(((name)))} ((* if more *))((( more )))((* endif *))((= unseen =)) % {{ }} {% %}"
    assert rendered(source, tmp_path, name="a_b", more=Tex("$x$")) == r"\textbf{a\_b} $x$ % {{ }} {% %}"


def test_a_missing_value_in_a_template_is_a_dash(tmp_path):
    assert rendered("(((value)))", tmp_path, value=None) == DASH


def test_a_float_without_a_format_is_an_error(tmp_path):
    with pytest.raises(TypeError, match="use a number filter"):
        rendered("(((value)))", tmp_path, value=1.5)
    assert rendered("(((value|fixed(1))))", tmp_path, value=1.5) == "1.5"


@pytest.mark.parametrize("name", ["fixed", "significant", "integer", "percent", "large", "size"])
def test_what_a_template_lacks_is_a_dash_in_every_format(tmp_path, name):
    assert rendered(f"(((row.absent|{name})))", tmp_path, row={}) == DASH


def test_a_name_that_is_not_defined_is_an_error(tmp_path):
    with pytest.raises(jinja2.UndefinedError, match="absent"):
        rendered("(((absent)))", tmp_path)


def test_render_reads_the_template_file(tmp_path):
    (tmp_path / "t.tex.j2").write_text("((* for x in xs *))\n(((x)))\\\\\n((* endfor *))\nend\n")
    assert render(tmp_path / "t.tex.j2", xs=[1, 2]) == "1\\\\\n2\\\\\nend\n"
