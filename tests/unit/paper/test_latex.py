import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from specpress.analysis.formatting import fixed, integer, number, percent, significant
from specpress.paper.typesetting import glyphs
from specpress.paper.typesetting.latex import Tex, escape

ROOT = Path(__file__).parents[3]
DASH = "---"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50% of #1 & $2_x", r"50\% of \#1 \& \$2\_x"),
        (r"\input{a}", r"\textbackslash{}input\{a\}"),
        ("~^<>", r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}"),
        ("γ = 4 ×", r"$\gamma$ = 4 $\times$"),
        ("naïve Łódź", "naïve Łódź"),
        ("a\nb\tc", "a b c"),
        ("\x00", "[U+0000]"),
    ],
)
def test_what_latex_minds_is_escaped(text, expected):
    assert escape(text) == expected


def test_other_characters_are_drawn_and_keep_their_codes():
    outlines = r"\{q 1 0 0 1 0 0 cm [\d. mlchq-]+ f Q q 1 0 0 .+ f Q\}"
    assert re.fullmatch(r"A\\drawn\{[\d.]+\}\{04160438\}" + outlines + " b", escape("AЖи b"))
    _, _, mirrored = escape("של").partition("}{05E905DC}{")
    assert mirrored.startswith(escape("ל").partition("}{05DC}{")[2].removesuffix("}"))  # what is read last stands first


def test_what_no_font_has_is_told_by_its_code(monkeypatch):
    monkeypatch.setattr(glyphs, "font_of", lambda char: None)
    assert escape("x漢字") == "x[U+6F22][U+5B57]"
    assert glyphs.unknown_characters("ab漢é") == ["漢 (U+6F22 CJK UNIFIED IDEOGRAPH-6F22)"]


def test_what_no_font_has_is_named_when_a_study_is_checked(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(glyphs, "font_of", lambda char: None)
    plain, other = ROOT / "tests/study.yaml", tmp_path / "study.yaml"
    other.write_text(plain.read_text().replace("title: no KV cache", "title: 漢 KV"), encoding="utf-8")
    main = runpy.run_path(str(ROOT / "scripts/check_study.py"))["main"]
    for path, said in ((other, "no font on this machine has 漢 (U+6F22"), (plain, "")):
        monkeypatch.setattr("sys.argv", ["check_study.py", "--study", str(path)])
        main()
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == bool(said)


def test_east_asian_lines_can_be_broken_anywhere(monkeypatch):
    monkeypatch.setattr(glyphs, "font_of", lambda char: "some font")
    monkeypatch.setattr(glyphs, "_outline", lambda font, char: (1.0, "0 0 m"))
    assert escape("漢字").count(r"\allowbreak{}\drawn{1}{") == 2


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_drawn_characters_build_and_are_found_in_the_pdf(tmp_path):
    text = (ROOT / "paper/main.tex").read_text()
    macro = text[text.index(r"\makeatletter" + "\n" + r"\DeclareRobust") :].partition(r"\makeatother")[0]
    lines = [r"\documentclass{article}", r"\usepackage[T1]{fontenc}", r"\pdfcompresslevel=0", macro, r"\makeatother"]
    lines += [r"\begin{document}", escape("Жизнь ♞ x"), r"\textbf{\tiny " + escape("½") + "}", r"\end{document}"]
    (tmp_path / "a.tex").write_text("\n".join(lines))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    pdf = (tmp_path / "a.pdf").read_bytes()
    for word in ("Жизнь", "♞", "½"):
        assert b"/ActualText <FEFF" + word.encode("utf-16-be").hex().upper().encode() + b">" in pdf


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
