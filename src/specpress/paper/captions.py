"""Titles and captions of figures and tables, written once (paper/captions.yaml) for the paper and the report."""

from collections.abc import Mapping
from dataclasses import dataclass

import jinja2
from markupsafe import Markup


@dataclass(frozen=True)
class Caption:
    """What a figure or table is called in a list, in plain text, and its caption as markup."""

    title: str
    text: Markup


def captions(written: Mapping[str, Mapping[str, Mapping[str, str]]], **values: object) -> dict[str, Caption]:
    """The captions of paper/captions.yaml by what they describe, such as "figures/pareto", with `values` put in.

    >>> captions({"tables": {"a": {"title": "A", "caption": "At <em>{{ x }}</em>."}}}, x="<1")["tables/a"].text
    Markup('At <em>&lt;1</em>.')
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return {
        f"{kind}/{name}": Caption(each["title"], Markup(environment.from_string(each["caption"]).render(**values)))
        for kind, items in written.items()
        for name, each in items.items()
    }
