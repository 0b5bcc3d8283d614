"""Text as LaTeX: plain text is escaped, and markup, which is a little HTML, becomes commands.

What the paper and the report both show is written as `markupsafe.Markup`: the report takes it as it is. Its elements
are those of `COMMANDS`, `<data value="EXPERIMENT/METRIC">` around a number of the results, and `<a data-label="LABEL">`
around the words that stand for a reference where there are no labels.
"""

from html.parser import HTMLParser
from itertools import groupby

from markupsafe import Markup

from specpress.analysis.formatting import MINUS, THIN, TIED
from specpress.paper.typesetting.glyphs import drawn, is_in_papers_fonts

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "α": r"$\alpha$", "γ": r"$\gamma$", "×": r"$\times$",
    "÷": r"$\div$", "±": r"$\pm$", "≤": r"$\le$", "≥": r"$\ge$", "→": r"$\to$", MINUS: "$-$",
    "–": "--", "—": "---", "…": r"\ldots{}", "’": "'", "“": "``", "”": "''", "\u00ad": r"\-", THIN: r"\,", TIED: "~",
    "®": r"\textregistered{}", "™": r"\texttrademark{}",
}  # fmt: skip
# A span is a mark that takes no room, beside a number in a table.
COMMANDS = {
    "em": r"\emph", "strong": r"\textbf", "code": r"\texttt", "sup": r"\textsuperscript", "cite": r"\citep",
    "span": r"\rlap",
}  # fmt: skip


class Tex(str):
    """Text that is LaTeX already and is not escaped again."""

    __slots__ = ()


def escape(text: object) -> Tex:
    """Any value as LaTeX text.

    Characters with a meaning are escaped, the few symbols this project uses are spelled out, accented Latin letters
    pass, white space becomes a space, and everything else is drawn (`specpress.paper.typesetting.glyphs`).

    >>> print(escape("50% of γ"), escape(Markup("<em>a &amp; b</em>")))
    50\\% of $\\gamma$ \\emph{a \\& b}
    """
    if isinstance(text, Tex):
        return text
    if not isinstance(text, Markup):
        runs = groupby(str(text), lambda char: char in SPECIAL or char.isspace() or is_in_papers_fonts(char))
        return Tex("".join("".join(map(_set, run)) if known else drawn("".join(run)) for known, run in runs))
    reader = _Reader()
    reader.feed(str(text))
    reader.close()
    if reader.inside:
        raise ValueError(f"<{reader.inside[-1]}> is not ended in {text!r}")
    return Tex("".join(reader.parts))


class _Reader(HTMLParser):
    """Markup to the parts of LaTeX."""

    def __init__(self):
        super().__init__()
        self.parts: list[str] = []
        self.inside: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "data":
            self.parts.append("\\result{{{}}}{{{}}}".format(*given["value"].split("/", 1)))
        elif tag == "a":
            self.parts.append(f"\\cref{{{given['data-label']}}}")
        elif tag in COMMANDS:
            self.parts.append(COMMANDS[tag] + "{")
        else:
            raise ValueError(f"<{tag}> has no LaTeX: use one of {', '.join(COMMANDS)}, data and a")
        self.inside.append(tag)

    def handle_endtag(self, tag):
        if not self.inside or self.inside.pop() != tag:
            raise ValueError(f"</{tag}> ends nothing in {self.rawdata!r}")
        self.parts.append("}" if tag in COMMANDS else "")

    def handle_data(self, data):
        if not {"data", "a"} & set(self.inside):  # LaTeX knows them by their names
            self.parts.append(escape(data))


def _set(char: str) -> str:
    return SPECIAL.get(char) or (" " if char.isspace() else char)
