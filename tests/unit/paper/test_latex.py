import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from specpress.analysis.formatting import fixed, integer, number, percent, significant
from specpress.paper.latex import Tex, escape

DASH = "---"


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


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("<em>a</em> &amp; <strong>b_<em>c</em></strong>", r"\emph{a} \& \textbf{b\_\emph{c}}"),
        ('<data value="gamma4-greedy/speedup/low">1.250</data>x', r"\result{gamma4-greedy}{speedup/low}x"),
        ('by <a data-label="eq:one">the first formula</a>', r"by \cref{eq:one}"),
        ("2.00<span><sup>a</sup></span>", r"2.00\rlap{\textsuperscript{a}}"),
        ("<cite>chen2023</cite>, <code>x_y</code>", r"\citep{chen2023}, \texttt{x\_y}"),
        ("“it’s” α ≤ 2\u00a0% →", r"``it's'' $\alpha$ $\le$ 2~\% $\to$"),
    ],
)
def test_markup_becomes_commands(markup, expected):
    assert escape(Markup(markup)) == expected


@given(st.text())
def test_text_put_into_markup_comes_out_as_the_text_alone_does(text):
    inside = escape(Markup("<em>{}</em>").format(text)).removeprefix(r"\emph{").removesuffix("}")
    assert inside.replace("\r", "?") == re.sub("\r", "?", escape(text))


@pytest.mark.parametrize("markup", ["<b>a</b>", "<em>a</strong>", "</em>", "<em>a"])
def test_markup_that_has_no_latex_is_an_error(markup):
    with pytest.raises(ValueError, match=r"LaTeX|ends|is not ended"):
        escape(Markup(markup))
