import re

import pytest

from specpress.tex.html import captions, equation_numbers, html, plain, printed_numbers, table

NUMBERS = r"""
\defineresult{gamma4}{speedup}{1.21} % results/small/metrics/gamma4.json : pairs[*]
\defineresult{gamma4}{kv_bytes}{12.5~MiB} % results/small/metrics/gamma4.json : pairs[*]
"""


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        (r"45\% of A\&B", "45% of A&amp;B"),
        (r"\emph{faster, \textbf{much}} here", "<em>faster, <strong>much</strong></em> here"),
        (r"$\gamma = 4$ and $-$1.5", "γ = 4 and −1.5"),
        (r"$10^{-3}$, $x_i$", "10<sup>−3</sup>, x<sub>i</sub>"),
        (r"$c_\gamma$", "c<sub>γ</sub>"),
        (r"0.5\rlap{\textsuperscript{a}}", "0.5<sup>a</sup>"),
        (r"a < b", "a &lt; b"),
        ("``it's''", "“it’s”"),
        (r"1--2 --- dash", "1–2 — dash"),
        (r"\parbox{3cm}{\raggedright text}", "text"),
        (r"in \cref{tab:speed}", "in table speed"),
        (r"known~\citep{chen2023}.", "known\u00a0."),
        (r"\unknown[x]{kept}", "[x]kept"),
        (r"\result{gamma4}{speedup}x, \result{gamma4}{kv_bytes}", "1.21x, 12.5\u00a0MiB"),
        (r"50\,\% {\small small}", "50\u2009% small"),
    ],
)
def test_text(tex, expected):
    assert html(tex, printed_numbers(NUMBERS)) == expected


def test_equations_are_cited_by_the_number_they_have_in_the_paper():
    texts = [r"\label{sec:a} % \label{eq:gone}", r"\label{eq:accept} then \label{eq:prediction}"]
    assert html(r"by \cref{eq:prediction}", equation_numbers(texts)) == "by equation (2)"
    assert html(r"by \cref{eq:other}", equation_numbers(texts)) == "by equation other"


def test_number_that_is_not_defined_is_an_error():
    with pytest.raises(KeyError):
        html(r"\result{gamma4}{no_such}", printed_numbers(NUMBERS))


def test_plain_text_has_no_markup():
    assert plain(r"\emph{$-$1}~\% of A\&B") == "−1\u00a0% of A&B"


TABLE = r"""
\begingroup\footnotesize % small
\begin{tabular}{@{}>{\raggedright\arraybackslash}p{4.2cm}r*{2}{c}@{}}
\toprule
Method & rate & \multicolumn{2}{c}{speed-up (95\% interval)} \\
\cmidrule(lr){3-4}
 & 1/s & & \\
\midrule
\multicolumn{4}{@{}l}{\emph{Greedy}} \\[2pt]
AIMD \& more & 12 & 1.2\rlap{\textsuperscript{a}} & [1, 2] \\
\addlinespace[2pt]
\midrule
Other & & & \\
\bottomrule
\end{tabular}

\smallskip\noindent\parbox{\linewidth}{\raggedright\textsuperscript{a}~A reason.}
\endgroup
"""


def test_table_keeps_head_spans_sides_and_notes():
    text = table(TABLE)
    head, body = text.split("</thead>")
    assert '<th class="center" colspan="2">speed-up (95% interval)</th>' in head
    assert head.count("<tr>") == 2
    assert '<td class="left" colspan="4"><em>Greedy</em></td>' in body
    assert (
        '<td class="wrapped">AIMD &amp; more</td><td class="right">12</td><td class="center">1.2<sup>a</sup></td>'
        in body
    )
    assert '<tr class=ruled><td class="wrapped">Other</td>' in body
    assert "<p><sup>a</sup>\u00a0A reason.</p>" in body


def test_captions_are_found_by_what_they_describe():
    text = r"""
    \begin{figure}[tb]
      \includegraphics[width=\linewidth]{figures/loss.pdf}
      \caption[short]{Loss of the \emph{draft}; % remark
        in nats.}\label{fig:loss}
    \end{figure}
    \begin{table*}\caption{Two.}\input{tables/a}\input{tables/b}\end{table*}
    """
    found = captions([text])
    assert re.sub(r"\s+", " ", found.pop("figures/loss")) == r"Loss of the \emph{draft}; in nats."
    assert found == {"tables/a": "Two.", "tables/b": "Two."}


def test_figures_and_tables_that_share_a_float_have_their_own_captions():
    text = r"""
    \begin{figure}
      \begin{minipage}{0.5\linewidth}\includegraphics{figures/a}\caption{Left.}\label{fig:a}\end{minipage}
      \begin{minipage}{0.5\linewidth}\includegraphics{figures/b}\caption{Right.}\end{minipage}
    \end{figure}
    \begin{table}\caption{First.}\input{tables/a}\caption{Second.}\input{tables/b}\end{table}
    """
    assert captions([text]) == {
        "figures/a": "Left.", "figures/b": "Right.", "tables/a": "First.", "tables/b": "Second.",
    }  # fmt: skip
