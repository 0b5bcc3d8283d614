"""Text from templates: everything from data is escaped, no number reaches the page unformatted, a gap is a dash.

In templates of LaTeX Jinja2's delimiters become ((* *)) for statements, ((( ))) for values and ((= =)) for comments,
which LaTeX leaves alone; templates of HTML keep Jinja2's own.
"""

from collections.abc import Callable
from pathlib import Path

import jinja2

from specpress.analysis import formatting
from specpress.paper.typesetting.latex import escape

FORMATS = ("fixed", "significant", "integer", "percent", "large", "size")
LATEX = {
    "block_start_string": "((*", "block_end_string": "*))", "variable_start_string": "(((",
    "variable_end_string": ")))", "comment_start_string": "((=", "comment_end_string": "=))",
}  # fmt: skip


def template_environment(folder: str | Path, *, html: bool = False) -> jinja2.Environment:
    """A Jinja2 environment with the number formats as filters, and the delimiters and the escaping of what it writes.

    A value of a template is escaped unless it is `Tex`, or in HTML `Markup`; a float that no filter has formatted is an
    error, and so is a name that is not defined.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=html,
        finalize=_shown if html else lambda value: escape(_shown(value)),
        **({} if html else LATEX),
    )
    environment.filters |= {name: _of_defined(getattr(formatting, name)) for name in FORMATS}
    environment.filters["side"] = lambda cell: cell.side()
    return environment


def render(template: str | Path, **context: object) -> str:
    """Render a template file; one called .html.j2 writes HTML, every other one LaTeX.

    Raises
    ------
    jinja2.UndefinedError
        If the template uses a name that the context lacks.
    TypeError
        If a value is a float without a format.
    """
    template = Path(template)
    environment = template_environment(template.parent, html=template.name.endswith(".html.j2"))
    return environment.get_template(template.name).render(**context)


def _of_defined(function: Callable[..., str]) -> Callable[..., str]:
    """A number format as a filter, to which a template's undefined is a missing value too."""
    return lambda value, *args: function(None if isinstance(value, jinja2.Undefined) else value, *args)


def _shown(value: object) -> object:
    if isinstance(value, float):
        raise TypeError(f"{value!r} reaches the page unformatted: use a number filter such as fixed or significant")
    return formatting.DASH if value is None else value
