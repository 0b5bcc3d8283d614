"""LaTeX from templates: everything from data is escaped, no number reaches the page unformatted, a gap is a dash.

Jinja2's delimiters become ((* *)) for statements, ((( ))) for values and ((= =)) for comments, which LaTeX leaves
alone.
"""

from collections.abc import Callable
from pathlib import Path

import jinja2

from specpress.analysis import formatting

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "γ": r"$\gamma$", "×": r"$\times$", "÷": r"$\div$", "±": r"$\pm$",
    "–": "--", "—": "---", "…": r"\ldots{}", "’": "'", "®": r"\textregistered{}", "™": r"\texttrademark{}",
    formatting.MINUS: "$-$", formatting.THIN: r"\,", formatting.TIED: "~",
}  # fmt: skip


class Tex(str):
    """Text that is LaTeX already and is not escaped again."""

    __slots__ = ()


def escape(text: object) -> Tex:
    """Any value as LaTeX text.

    Characters with a meaning are escaped, the few symbols this project uses are spelled out, accented Latin letters
    pass, and everything else becomes a question mark: a document that builds beats a glyph.
    """
    if isinstance(text, Tex):
        return text
    return Tex("".join(SPECIAL.get(char) or (char if _printable(char) else "?") for char in str(text)))


def template_environment(folder: str | Path) -> jinja2.Environment:
    """A Jinja2 environment for LaTeX: its delimiters, its escaping, and the number formats as filters.

    A value of a template is escaped unless it is `Tex`; a float that no filter has formatted is an error, and so is a
    name that is not defined.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        block_start_string="((*",
        block_end_string="*))",
        variable_start_string="(((",
        variable_end_string=")))",
        comment_start_string="((=",
        comment_end_string="=))",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
    )
    formats = ("fixed", "significant", "integer", "percent", "large", "size")
    environment.filters |= {name: _of_defined(getattr(formatting, name)) for name in formats}
    environment.filters["side"] = lambda cell: cell.side()
    return environment


def render(template: str | Path, **context: object) -> str:
    """Render a template file.

    Raises
    ------
    jinja2.UndefinedError
        If the template uses a name that the context lacks.
    TypeError
        If a value is a float without a format.
    """
    template = Path(template)
    return template_environment(template.parent).get_template(template.name).render(**context)


def _of_defined(function: Callable[..., str]) -> Callable[..., str]:
    """A number format as a filter, to which a template's undefined is a missing value too."""
    return lambda value, *args: function(None if isinstance(value, jinja2.Undefined) else value, *args)


def _finalize(value: object) -> str:
    if isinstance(value, jinja2.Undefined):
        return value
    if isinstance(value, float):
        raise TypeError(f"{value!r} reaches the page unformatted: use a number filter such as fixed or significant")
    if value is None:
        value = formatting.DASH
    return escape(value)


def _printable(char: str) -> bool:
    return " " <= char <= "~" or ("\u00c0" <= char <= "\u017f" and char not in "×÷ŉſ")
