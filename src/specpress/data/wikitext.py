"""Prose from MediaWiki markup: what a reader sees of an article, without tables, notes, pictures and formulas."""

import re

import mwparserfromhell
from mwparserfromhell import nodes

# sections without prose, with everything under them
_DROPPED_SECTIONS = {
    *("references", "notes", "footnotes", "citations", "sources", "works cited", "references and notes"),
    *("notes and references", "bibliography", "further reading", "see also", "external links", "gallery"),
}
_DROPPED_TAGS = {
    *("ref", "references", "table", "gallery", "math", "chem", "score", "timeline", "hiero", "imagemap"),
    *("source", "syntaxhighlight", "pre"),
}
_DROPPED_LINKS = re.compile(r"\s*(file|image|media|category|[a-z]{2,3}(-[a-z-]+)?)\s*:", re.IGNORECASE)
_TEMPLATES_SHOWING_FIRST = {
    *("nowrap", "small", "smaller", "big", "quote", "blockquote", "cquote", "nihongo", "val", "vanchor", "keypress"),
}
_TEMPLATES_SHOWING_LAST = {"lang", "transl"}
_RANGE_WORDS = {"to", "-", "–", "and", "or", "x", "by"}
_UNITS = {
    "km2": "km²",
    "m2": "m²",
    "sqmi": "sq mi",
    "sqft": "sq ft",
    "C": "°C",
    "F": "°F",
    "C-change": "°C",
    "F-change": "°F",
}

_LEFTOVER_MARKUP = re.compile(r"\{\{[^{}\n]*\}{0,2}|\}\}|\{\||\|\}|\[\[|\]\]|'{2,}|__[A-Z]+__|</?[a-zA-Z][^<>\n]*>")
_TABLE_ROW = re.compile(r"^[|!].*$", re.MULTILINE)
_EMPTY_BRACKETS = re.compile(r"\([\s,;:–-]*\)|\[[\s,;:]*\]")


def clean_wikitext(text: str) -> str:
    """The prose of an article in wiki markup: paragraphs and headings, separated by blank lines.

    Tables, references, pictures, categories, formulas and most templates go; links and emphasis leave their text.
    Sections such as References or External links go, and headings that nothing follows.
    """
    article = mwparserfromhell.parse(text)
    blocks, heading, body = [], "", []
    dropped_level = None
    for node in article.nodes:
        if not isinstance(node, nodes.Heading):
            if dropped_level is None:
                body.append(_shown(node))
            continue
        blocks.append((heading, _tidy("".join(body))))
        heading, body = _tidy(_shown_all(node.title)), []
        if dropped_level is None or node.level <= dropped_level:
            dropped_level = node.level if heading.lower() in _DROPPED_SECTIONS else None
    blocks.append((heading, _tidy("".join(body))))
    return "\n\n".join(part for heading, body in blocks if body for part in (heading, body) if part)


def is_disambiguation(text: str) -> bool:
    """Whether an article in wiki markup only lists the meanings of its title."""
    names = r"disambig(uation)?|dab|disamb|hndis|geodis|surname|given name"
    return re.search(r"\{\{\s*(" + names + r")\s*(\||\}\})", text, re.IGNORECASE) is not None


def _shown_all(wikicode) -> str:
    return "".join(_shown(node) for node in wikicode.nodes) if wikicode is not None else ""


def _shown(node) -> str:
    """What a reader sees of a node of the parsed markup."""
    match node:
        case nodes.Text():
            return node.value
        case nodes.HTMLEntity():
            return node.normalize()
        case nodes.Wikilink():
            return _shown_link(node)
        case nodes.ExternalLink():
            return _shown_all(node.title)
        case nodes.Template():
            return _shown_template(node)
        case nodes.Tag():
            return _shown_tag(node)
        case nodes.Heading():
            return _shown_all(node.title)
    return ""  # comments, arguments


def _shown_link(link) -> str:
    title = _shown_all(link.title)
    if _DROPPED_LINKS.match(title):
        return ""
    return _shown_all(link.text) if link.text is not None else title.lstrip(":")


def _shown_tag(tag) -> str:
    name = str(tag.tag).strip().lower()
    if name in _DROPPED_TAGS:
        return ""
    return "\n" if name in ("br", "hr") else _shown_all(tag.contents)


def _shown_template(template) -> str:
    name = _shown_all(template.name).strip().lower().replace("_", " ")
    values = [_shown_all(parameter.value).strip() for parameter in template.params if not parameter.showkey]
    if name == "nbsp":
        return " "
    if not values:
        return ""
    if name in ("convert", "cvt"):
        return _shown_quantity(values)
    if name == "as of":
        return ("as of " if template.has("lc") else "As of ") + " ".join(values)
    if name in _TEMPLATES_SHOWING_FIRST or name.startswith("lang-"):
        return values[0]
    return values[-1] if name in _TEMPLATES_SHOWING_LAST else ""


def _shown_quantity(values: list[str]) -> str:
    """{{convert|3|to|5|km|mi}} -> 3 to 5 km."""
    if len(values) >= 4 and values[1] in _RANGE_WORDS:
        number, unit = " ".join(values[:3]), values[3]
    else:
        number, unit = values[0], values[1] if len(values) > 1 else ""
    return f"{number} {_UNITS.get(unit, unit)}".strip()


def _tidy(text: str) -> str:
    """Plain paragraphs: one space, one blank line at most, nothing left of what was taken out."""
    text = _TABLE_ROW.sub("", text)
    while (stripped := _LEFTOVER_MARKUP.sub("", text)) != text:  # what is taken out may bring its neighbours together
        text = stripped
    text = re.sub(r"[^\S\n]+", " ", text)
    text = _EMPTY_BRACKETS.sub("", text)
    text = re.sub(r"([(\[])[\s,;:]+", r"\1", text)
    text = re.sub(r"[^\S\n]+([,.;:!?)\]])", r"\1", text)
    text = re.sub(r"[^\S\n]+", " ", text)
    lines = [line.strip(" *#") for line in text.split("\n")]
    lines = ["" if re.fullmatch(r"[\W_]*", line) else line for line in lines]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
