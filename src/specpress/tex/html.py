"""The LaTeX of this project's tables, captions and numbers as HTML: a small subset, read and not run.

Known are the text commands, symbols and mathematics the templates use, tabular environments with booktabs rules, and
\\result. The argument of an unknown command is kept as text, the command itself is dropped.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape, unescape

SYMBOLS = {
    **{char: char for char in "%&_#${}"}, ",": "\u2009", ";": " ", ":": " ", "!": "", " ": " ", "/": "", "-": "",
    "@": "", "gamma": "γ", "alpha": "α", "tau": "τ", "mu": "µ", "times": "×", "div": "÷", "pm": "±", "approx": "≈",
    "sim": "~", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ldots": "…", "dots": "…", "cdot": "·", "infty": "∞",
    "to": "→", "rightarrow": "→", "sum": "∑", "min": "min", "max": "max", "log": "log", "exp": "exp",
    "textquotedbl": '"', "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<",
    "textgreater": ">", "textbar": "|",
    "textregistered": "®", "texttrademark": "™", "S": "§", "quad": " ", "qquad": " ", "checkmark": "✓",
}  # fmt: skip
TAGS = {
    "emph": "em", "textit": "em", "textbf": "strong", "texttt": "code", "textsuperscript": "sup",
    "textsubscript": "sub", "mathrm": "span", "mathit": "em", "text": "span", "textsc": "span", "mathbf": "strong",
}  # fmt: skip
# Commands that leave nothing, and those of which only the last argument is shown: how many arguments each has.
DROPPED = {
    "setlength": 2, "label": 1, "cmidrule": 1, "vspace": 1, "hspace": 1, "citep": 1, "citet": 1, "rule": 2, "end": 1,
    "includegraphics": 1, "addtolength": 2, "cline": 1, "color": 1, "begin": 1, "caption": 1, "renewcommand": 2,
}  # fmt: skip
KEPT = {"parbox": 2, "textcolor": 2, "makebox": 1, "mbox": 1, "resizebox": 3, "rlap": 1, "llap": 1, "multirow": 3}
KINDS = {"fig": "figure", "tab": "table", "sec": "section", "eq": "equation", "alg": "algorithm"}
REFERENCES = ("cref", "Cref", "ref", "eqref")
ARGUMENTS = {**DROPPED, **KEPT, **dict.fromkeys([*TAGS, *REFERENCES], 1), "result": 2}
TABULARS = {"tabular": 1, "tabular*": 2, "tabularx": 2, "longtable": 1}  # and how many arguments each has

_PLAIN = {"~": "\u00a0", "---": "—", "--": "–", "``": "“", "''": "”", "'": "’"}
_PIECE = re.compile(
    r"\\(?:(?P<word>[A-Za-z]+)\*?|(?P<symbol>.))|(?P<raise>[\^_])|(?P<math>\$)|[{}]|(?P<plain>---?|``|''|[~'])|"
    r"(?P<text>[^\\^_${}~'`-]+|.)",
    re.DOTALL,
)
_SHOWN_OR_CAPTION = re.compile(
    r"\\caption(?=[\[{])|\\(?:includegraphics|input)(?:\[[^]]*\])?\{(?P<name>(?:figures|tables)/[^}]+)\}"
)
_RULE = re.compile(
    r"\s*\\(toprule|midrule|bottomrule|hline|addlinespace|specialrule|morecmidrules|cmidrule)\b(?:\[[^]]*\])?"
)


def html(tex: str, numbers: Mapping[str, str] | None = None, *, math: bool = False) -> str:
    """LaTeX text as HTML.

    Parameters
    ----------
    tex : str
    numbers : Mapping
        What \\result{experiment}{metric} prints, in LaTeX, by "experiment/metric"; and the equations, by their labels.
    math : bool
        Whether it begins inside a formula.
    """
    parts, place = [], 0
    while match := _PIECE.match(tex, place):
        place = match.end()
        if match["math"]:
            math = not math
        elif match["raise"]:
            argument, place = _argument(tex, place)
            tag = "sup" if match["raise"] == "^" else "sub"
            parts.append(f"<{tag}>{html(argument, numbers, math=math)}</{tag}>")
        elif command := match["word"] or match["symbol"]:
            if match["word"] and not math:
                place = re.compile(r"[ \t]*\n?").match(tex, place).end()
            shown, place = _command(command, tex, place, numbers or {}, math)
            parts.append(shown)
        elif match["plain"]:
            parts.append(match["plain"].replace("-", "−").replace("'", "′") if math else _PLAIN[match["plain"]])
        elif match["text"]:
            parts.append(escape(match["text"].replace("-", "−") if math else match["text"], quote=False))
    return "".join(parts)


def plain(tex: str) -> str:
    """LaTeX text as plain text.

    >>> plain(r"$-$12.5~MiB, 45\\%")
    '−12.5\\xa0MiB, 45%'
    """
    return unescape(re.sub(r"<[^>]+>", "", html(tex)))


def printed_numbers(numbers_tex: str) -> dict[str, str]:
    """What numbers.tex defines: LaTeX by "experiment/metric"."""
    found = re.findall(r"^\\defineresult\{(.+?)\}\{(.+?)\}\{(.*)\} % ", numbers_tex, re.MULTILINE)
    return {f"{experiment}/{metric}": text for experiment, metric, text in found}


def equation_numbers(texts: Iterable[str]) -> dict[str, str]:
    r"""The number of each equation with a label, by the label, from the paper's texts in their order.

    >>> equation_numbers([r"\label{sec:a} \label{eq:one}", r"\label{eq:two}"])
    {'eq:one': '1', 'eq:two': '2'}
    """
    labels = [label for text in texts for label in re.findall(r"\\label\{(eq:[^}]+)\}", _without_comments(text))]
    return {label: str(number) for number, label in enumerate(labels, 1)}


def captions(texts: Iterable[str]) -> dict[str, str]:
    """The captions of the paper, in LaTeX, by what their figure or table shows, such as "figures/draft-loss".

    A float may hold several figures or tables, each with its own caption, all of them below or, if a caption comes
    first, above what they describe.
    """
    found = {}
    for text in map(_without_comments, texts):
        for body in re.findall(r"\\begin\{(?:figure|table)\*?\}(.*?)\\end\{(?:figure|table)\*?\}", text, re.DOTALL):
            pieces = list(_SHOWN_OR_CAPTION.finditer(body))
            above = pieces and not pieces[0]["name"]
            caption = None
            for piece in pieces if above else reversed(pieces):
                if not piece["name"]:
                    caption = _argument(body, piece.end())[0]
                elif caption is not None:
                    found[piece["name"].removesuffix(".pdf")] = caption
    return found


def table(tex: str, numbers: Mapping[str, str] | None = None) -> str:
    """A LaTeX file with tabular environments as HTML: a <table> for each, what stands between them as paragraphs."""
    tex, parts, place = _without_comments(tex), [], 0
    for match in re.finditer(r"\\begin\{(tabular\*?|tabularx|longtable)\}(.*?)\\end\{\1\}", tex, re.DOTALL):
        parts += _paragraphs(tex[place : match.start()], numbers)
        start = 0
        for _ in range(TABULARS[match[1]]):
            columns, start = _argument(match[2], start)
        parts.append(_tabular(match[2][start:], _alignments(columns), numbers))
        place = match.end()
    return "\n".join([*parts, *_paragraphs(tex[place:], numbers)])


def _command(name: str, tex: str, place: int, numbers: Mapping[str, str], math: bool) -> tuple[str, int]:
    """The HTML of a command whose arguments begin at `place`, and where they end."""
    if name in SYMBOLS:
        return escape(SYMBOLS[name], quote=False), place
    if name in ("\\", "newline"):
        return "<br>", place
    arguments = []
    for _ in range(ARGUMENTS.get(name, 0)):
        argument, place = _argument(tex, place)
        arguments.append(argument)
    if name == "result":
        return html(numbers["/".join(arguments)]), place
    if name in REFERENCES:
        kind, _, label = arguments[0].partition(":")
        where = f"({numbers[arguments[0]]})" if arguments[0] in numbers else label or kind
        return escape(f"{KINDS.get(kind, '')} {where}".strip()), place
    shown = html(arguments[-1], numbers, math=math) if arguments and name not in DROPPED else ""
    return (f"<{TAGS[name]}>{shown}</{TAGS[name]}>" if name in TAGS else shown), place


def _argument(tex: str, place: int) -> tuple[str, int]:
    """The next argument, a group without its braces or one token, past optional ones; and where it ends."""
    place = re.compile(r"\s*(\[[^]]*\]|\([^)]*\))*\s*").match(tex, place).end()
    if not tex.startswith("{", place):
        token = re.compile(r"\\[A-Za-z]+|\\?.|$", re.DOTALL).match(tex, place)
        return token[0], token.end()
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(tex, place):
        depth += (match[0] == "{") - (match[0] == "}")
        if not depth:
            return tex[place + 1 : match.start()], match.end()
    raise ValueError(f"unbalanced braces after {tex[place : place + 40]!r}")


def _split(tex: str, separator: str) -> list[str]:
    """LaTeX split at a separator outside braces."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(r"\\\\|\\.|[{}&]", tex, re.DOTALL):
        depth += (match[0] == "{") - (match[0] == "}")
        if match[0] == separator and not depth:
            parts.append(tex[start : match.start()])
            start = match.end()
    return [*parts, tex[start:]]


def _tabular(body: str, alignments: list[str], numbers: Mapping[str, str] | None) -> str:
    """The rows of a tabular as a table; those above its first inner rule are its head."""
    rows, head, rules = [], 0, 0
    for line in _split(body, r"\\"):
        line = re.sub(r"^\s*\[[^]]*\]", "", line)
        ruled = False
        while match := _RULE.match(line):
            line = line[match.end() :]
            if match[1] in ("cmidrule", "specialrule"):
                for _ in range(1 if match[1] == "cmidrule" else 3):
                    line = line[_argument(line, 0)[1] :]
            ruled |= match[1] in ("midrule", "hline")
            rules += match[1] in ("midrule", "hline")
        if rules == 1 and ruled:
            head = len(rows)
        if line.strip():
            rows.append((ruled and len(rows) > head, _split(line, "&")))
    lines = [
        _row(cells, alignments, "th" if i < head else "td", ruled, numbers) for i, (ruled, cells) in enumerate(rows)
    ]
    return "\n".join(["<table><thead>", *lines[:head], "</thead><tbody>", *lines[head:], "</tbody></table>"])


def _row(cells: list[str], alignments: list[str], tag: str, ruled: bool, numbers: Mapping[str, str] | None) -> str:
    """One row of a table."""
    parts, column = [], 0
    for cell in cells:
        span, alignment = 1, alignments[min(column, len(alignments) - 1)]
        if match := re.match(r"\s*\\multicolumn(?=\{)", cell):
            count, place = _argument(cell, match.end())
            columns, place = _argument(cell, place)
            span, alignment, cell = int(count), _alignments(columns)[0], _argument(cell, place)[0]
        attributes = f' colspan="{span}"' if span > 1 else ""
        parts.append(f'<{tag} class="{alignment}"{attributes}>{html(cell, numbers).strip()}</{tag}>')
        column += span
    return f"<tr{' class=ruled' if ruled else ''}>{''.join(parts)}</tr>"


def _alignments(columns: str) -> list[str]:
    """left, right, center or wrapped (of a given width) for each column of a tabular's specification."""
    while match := re.search(r"\*\{(\d+)\}(?=\{)", columns):
        repeated, end = _argument(columns, match.end())
        columns = columns[: match.start()] + int(match[1]) * repeated + columns[end:]
    while match := re.search(r"[@><!](?=\{)|(?<=[pmbwX])(?=[\[{])", columns):
        columns = columns[: match.start()] + columns[_argument(columns, match.end())[1] :]
    sides = {"r": "right", "c": "center", "S": "right"} | dict.fromkeys("pmbX", "wrapped")
    return [sides.get(column, "left") for column in re.sub(r"[|\s]", "", columns)]


def _paragraphs(tex: str, numbers: Mapping[str, str] | None) -> Iterator[str]:
    texts = (html(part, numbers).strip() for part in re.split(r"\n\s*\n", tex))
    return (f"<p>{text}</p>" for text in texts if text)


def _without_comments(tex: str) -> str:
    return re.sub(r"(?<!\\)%[^\n]*\n?[ \t]*", "", tex)
