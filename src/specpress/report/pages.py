"""The pages of the HTML report that are no figures: tables, all numbers, environment and study; each stands alone.

They say what the paper says: the tables and captions are the same objects, the numbers those of numbers.tex.
"""

from base64 import encodebytes
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from specpress.paper.captions import Caption
from specpress.provenance.explain import value_line
from specpress.provenance.numbers import Number

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5em; color: #1e293b; background: white; }
table { border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid; margin: 1em 0; }
th, td { padding: 0.2em 0.7em; vertical-align: top; } th { font-weight: 600; }
tbody { border-top: 1px solid; } th { vertical-align: bottom; }
.left { text-align: left; } .right { text-align: right; } .center { text-align: center; }
.left, .right, .center { white-space: nowrap; font-variant-numeric: tabular-nums; }
.wrapped { min-width: 13em; white-space: normal; } .note { margin: 0.2em 0; font-size: 12px; }
caption, p { text-align: left; max-width: 60em; } caption { padding-bottom: 0.5em; }
pre { font-size: 12px; } input { font: inherit; padding: 0.3em 0.6em; width: 30em; max-width: 100%; }
"""
FILTER = """
<p><input id="filter" type="search" placeholder="Show the numbers whose name has ..."></p>
<script>
document.getElementById("filter").addEventListener("input", event => {
  const words = event.target.value.toLowerCase().split(/\\s+/);
  for (const row of document.querySelectorAll("tbody tr"))
    row.hidden = !words.every(word => row.dataset.name.includes(word));
});
</script>
"""
NUMBER_COLUMNS = ("name", "value, 95% interval", "n", "note", "from")


def page(title: str, body: str) -> str:
    """A complete page: nothing in it is loaded from elsewhere."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


@dataclass(frozen=True)
class Figure:
    """A figure inside a page: the image as a data URI in short lines, which is all that RST takes, and its caption."""

    uri: str
    caption: Caption

    @classmethod
    def read(cls, svg: Path, caption: Caption) -> "Figure":
        """The figure of an SVG file."""
        return cls("data:image/svg+xml;base64," + encodebytes(svg.read_bytes()).decode(), caption)


def table_page(caption: Caption, table: str) -> str:
    """A table, in HTML, below its caption."""
    return page(caption.title, f"<p>{caption.text}</p>\n{table}")


def numbers_page(numbers: Iterable[Number]) -> str:
    """Every number of the study by name, with a field that filters them."""
    head = "".join(f"<th class=left>{title}</th>" for title in NUMBER_COLUMNS)
    rows = "\n".join(map(_number_row, numbers))
    return page("Numbers", f"{FILTER}<table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>")


def environment_page(environment: Mapping) -> str:
    """What the environments of all experiments share, where they differ, and what models and data are."""
    parts = ["<h2>Environment</h2>", _pairs(environment["common"])]
    if environment["different"]:
        parts.append("<h2>Different between experiments</h2>")
        parts.append(_pairs({key: _values(found) for key, found in environment["different"].items()}))
    for title in ("models", "drafts", "data"):
        for name, manifest in environment.get(title, {}).items():
            parts += [
                f"<h2>{escape(title.removesuffix('s').capitalize())}: {escape(name)}</h2>",
                _pairs(_flat(manifest)),
            ]
    return page("Environment", "\n".join(parts))


def study_page(text: str) -> str:
    """The study file as it is."""
    return page("Study", f"<pre>{escape(text)}</pre>")


def _number_row(number: Number) -> str:
    row = number.row
    cells = [
        ("left", f"<code>{escape(number.name)}</code>"),
        ("left" if "estimate" in row else "left wrapped", escape(value_line(number))),
        ("left", f"{row['n']:g}" if "n" in row else ""),
        ("left wrapped", escape(str(row.get("note", ""))) if "estimate" in row else ""),
        ("left wrapped", escape(f"{', '.join(number.files)}: {row['field']}")),
    ]
    columns = "".join(f'<td class="{look}">{cell}</td>' for look, cell in cells)
    return f'<tr data-name="{escape(number.name.lower())}">{columns}</tr>'


def _pairs(values: Mapping) -> str:
    rows = (f"<tr><td>{escape(str(key))}</td><td>{escape(str(value))}</td></tr>" for key, value in values.items())
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _values(found: Iterable[Mapping]) -> str:
    return "; ".join(f"{each['value']} ({len(each['experiments'])} of them)" for each in found)


def _flat(manifest: Mapping) -> dict:
    """The entries of a manifest that fit a line, parts under dotted names, without the list of files."""
    flat = {}
    for key, value in manifest.items():
        if isinstance(value, Mapping) and key != "files":
            flat |= {f"{key}.{inner}": each for inner, each in value.items()}
        elif not isinstance(value, Mapping | list) and value is not None:
            flat[key] = value
    return flat
