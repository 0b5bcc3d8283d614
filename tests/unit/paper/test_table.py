"""One table, set by both layouts."""

import re
from pathlib import Path

import pytest
import yaml
from markupsafe import Markup

from specpress.paper.table import Block, Column, Entry, Grid, Table, row
from specpress.paper.typesetting.rendering import render

ROOT = Path(__file__).parents[3]
LAYOUTS = yaml.safe_load((ROOT / "paper/contents.yaml").read_text())["layouts"]
COLUMNS = [Column("left", 4.0), Column(), Column("left", gap="\u2009", small=True), Column("center", gap="9pt")]
HEAD = [
    row("", Entry(Markup("<em>both</em>"), span=2, align="center", rule="lr"), ""),
    row("Method", Entry("speed-up\n(95% interval)", span=2, align="center"), "accept\u00ad\nance"),
]
BLOCKS = [
    Block([row("A & B", "1.5", "[1, 2]", "")], "Title_1"),
    Block([row("C", Entry("over <two>", span=2, align="center"), Markup("2<span>*</span>"), apart=True)]),
]
TABLE = Table([Grid(COLUMNS, HEAD, BLOCKS)], [("a, b", "not measured")])


def latex(table):
    return re.sub(r"\s*(&|\\\\)\s*", r"\1", render(ROOT / LAYOUTS["paper"], table=table))


def html(table):
    return render(ROOT / LAYOUTS["report"], table=table)


@pytest.mark.parametrize(
    "part",
    [
        r"{@{}>{\raggedright\arraybackslash}p{4.0cm}r@{\,}>{\intervalsize}l@{\hspace{9pt}}c@{}}",
        r"&\multicolumn{2}{c}{\emph{both}}&\\\cmidrule(lr){2-3}",
        r"Method&\multicolumn{2}{c}{speed-up}&accept-\\&\multicolumn{2}{c}{(95\% interval)}&ance\\",
        r"\multicolumn{4}{@{}l@{}}{\emph{Title\_1}}\\A \&B&1.5&[1, 2]&\\",
        "\\midrule\n\\addlinespace[2pt]\n" + r"C&\multicolumn{2}{c}{over \textless{}two\textgreater{}}&2\rlap{*}\\",
        r"\textsuperscript{a, b}~not measured.",
    ],
)
def test_latex(part):
    assert part.replace("\n", "") in latex(TABLE).replace("\n", "")


@pytest.mark.parametrize(
    "part",
    [
        '<th class="center" colspan="2"><em>both</em></th>',
        '<th class="center" colspan="2">speed-up (95% interval)</th><th class="center">acceptance</th>',
        '<td class="left" colspan="4"><em>Title_1</em></td>',
        '<td class="left wrapped">A &amp; B</td><td class="right">1.5</td><td class="left">[1, 2]</td>',
        '<td class="center" colspan="2">over &lt;two&gt;</td><td class="center">2<span>*</span></td>',
        "<sup>a, b</sup> not measured.",
    ],
)
def test_html(part):
    assert part in html(TABLE)


def test_both_have_as_many_rows_and_rules():
    assert html(TABLE).count("<tbody>") == latex(TABLE).count("\\midrule") == 2
    assert html(TABLE).count("<tr>") == 2 + 1 + 2
    two = Table([*TABLE.grids, *TABLE.grids])
    assert html(two).count("<table>") == latex(two).count("\\begin{tabular}") == 2


def test_a_float_without_a_format_is_an_error_in_both():
    for layout in (latex, html):
        with pytest.raises(TypeError, match="use a number filter"):
            layout(Table([Grid([Column()], [], [Block([row(1.5)])])]))
