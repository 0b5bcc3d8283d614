import jinja2
import pytest

from specpress.paper.typesetting.latex import Tex
from specpress.paper.typesetting.rendering import render, template_environment

DASH = "---"


def rendered(source, tmp_path, **context):
    return template_environment(tmp_path).from_string(source).render(**context)


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
