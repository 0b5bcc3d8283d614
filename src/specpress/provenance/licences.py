"""Under which licences a study stands: its models, its data, and the packages that run it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution
from pathlib import PurePath

from specpress.study.load import Study

NOT_STATED = "not stated"
_LONGEST = 60  # characters: some packages put the whole text of their licence where its name belongs


def rows(study: Study, sources: Mapping[str, Mapping], packages: Iterable[Distribution]) -> Iterator[tuple[str, ...]]:
    """What is used, as (kind, name, version, licence).

    Parameters
    ----------
    study : Study
    sources : Mapping
        paper/sources.yaml: the licence of each package or repository that models and data come from, in LaTeX.
    packages : iterable of Distribution
        As `importlib.metadata.distributions` gives them.
    """
    for kind, entries in (("model", study.models), ("data", study.data)):
        for name, entry in entries.items():
            yield (kind, *_of_source(name, entry["source"], sources))
    found = {re.sub(r"[-_.]+", "-", package.name).lower(): package for package in packages}
    for name in sorted(found):
        yield "package", found[name].name, found[name].version, of_package(found[name])


def of_package(package: Distribution) -> str:
    """The licence a package states: SPDX expression, else classifiers, licence field, head of its licence file."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [text.split(" :: ") for text in metadata.get_all("Classifier") or () if text.startswith("License ::")]
    if named := sorted({parts[-1] for parts in classifiers if parts[-1] != "OSI Approved"}):
        return ", ".join(named)
    files = [path for path in package.files or () if re.match(r"(LICEN[CS]E|COPYING)", path.name)]
    heads = ((package.read_text(_below_metadata(path)) or "").strip().partition("\n")[0] for path in files)
    texts = (" ".join(text.split()) for text in (metadata.get("License") or "", *heads))
    return next((text for text in texts if 0 < len(text) <= _LONGEST), NOT_STATED)


def table(found: Iterable[tuple[str, ...]]) -> str:
    """The rows as a table in Markdown, which reads as plain text too."""
    lines = [("kind", "name", "version", "licence"), *found]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )


def _below_metadata(path: PurePath) -> str:
    """A file's path as `Distribution.read_text` takes it: below the folder of the metadata."""
    return PurePath(*path.parts[1:]).as_posix()


def _of_source(name: str, source: Mapping, sources: Mapping[str, Mapping]) -> tuple[str, str, str]:
    """Name, version and licence of a model or data set."""
    if source["kind"] == "random":
        return name, "", "none: random weights"
    if source["kind"] == "path":
        return f"{name} ({source['path']})", "", f"{NOT_STATED}: a file of yours"
    if source["kind"] in ("passages", "sets"):
        made_of = [source["data"]] if isinstance(source["data"], str) else source["data"]
        return f"{name} (of {', '.join(made_of)})", "", "that of what it is made of"
    key = source["package"] if source["kind"] == "wheel" else source["repo"]
    licence = sources.get(key, {}).get("licence", f"{NOT_STATED} in paper/sources.yaml")
    return f"{name} ({key})", source.get("version") or source.get("revision", ""), licence.replace("\u00a0", " ")
