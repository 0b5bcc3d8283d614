"""A prepared data set on disk: a `datasets.DatasetDict`, beside the manifest that says where it came from.

    <folder>/manifest.json, dataset_dict.json, {train,test}/{data-*.arrow, dataset_info.json, state.json}

`datasets.load_from_disk(folder)` opens it. The jobs map the same Arrow files by pyarrow alone, as `datasets` does
underneath: importing `datasets` takes a second, which every one of them would pay.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from specpress.data.documents import Document, split_documents
from specpress.files.publish import publish

TRAIN, TEST = "train", "test"
# Texts of one data set may be longer than the 2 GB that a plain string column holds.
DOCUMENT = pa.schema({"id": pa.string(), "title": pa.string(), "text": pa.large_string()})


class StoreError(ValueError):
    """A folder that holds no data set prepared by this version."""


class Documents(Sequence):
    """The documents of one half, memory-mapped: a text is read when its document is asked for.

    ids : list of str, of all of them
    """

    def __init__(self, table: pa.Table):
        self._table = table
        self.ids: list[str] = table["id"].to_pylist()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Document:
        return Document(**{name: self._table[name][index].as_py() for name in DOCUMENT.names})

    def __iter__(self) -> Iterator[Document]:
        return map(self.__getitem__, range(len(self)))


def save_split(directory: str | Path, documents: list[Document], test_fraction: float, manifest: dict) -> dict:
    """Split by document and save both halves; the manifest also tells the size of each, and comes back.

    Raises
    ------
    ValueError
        As `split_documents`.
    """
    halves = dict(zip((TRAIN, TEST), split_documents(documents, test_fraction), strict=True))
    sizes = {
        name: {"documents": len(half), "characters": sum(len(document.text) for document in half)}
        for name, half in halves.items()
    }
    manifest = {**manifest, "test_fraction": test_fraction, **sizes}
    tables = {name: pa.Table.from_pylist([asdict(d) for d in half], DOCUMENT) for name, half in halves.items()}
    save_tables(directory, tables, manifest)
    return manifest


def load_documents(directory: str | Path, half: str) -> Documents:
    """The documents of `half` ("train" or "test") of a data set that `save_split` wrote.

    Raises
    ------
    StoreError
        If there is none, or it is no data set of documents.
    """
    return Documents(load_table(directory, half, DOCUMENT))


def save_tables(directory: str | Path, tables: Mapping[str, pa.Table], manifest: dict) -> None:
    """Save a table a half as a DatasetDict, with its manifest: there whole or not at all, the same bytes each time."""
    from specpress.data.loaders import quiet_datasets

    datasets = quiet_datasets()
    halves = {name: datasets.Dataset(table, fingerprint=_fingerprint(name, table)) for name, table in tables.items()}
    with publish(directory, manifest) as folder:
        datasets.DatasetDict(halves).save_to_disk(folder)


def load_table(directory: str | Path, half: str, schema: pa.Schema) -> pa.Table:
    """The rows of one half, memory-mapped, of the columns that `schema` names.

    Raises
    ------
    StoreError
        If the folder holds none.
    """
    folder = Path(directory, half)
    again = f"remove {directory} and run the workflow: it is prepared anew"
    try:
        files = json.loads((folder / "state.json").read_text(encoding="utf-8"))["_data_files"]
        tables = [_mapped(folder / file["filename"]) for file in files]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        if folder.with_suffix(".jsonl").is_file():
            raise StoreError(f"{directory} was prepared by an earlier version, as JSON lines: {again}") from error
        raise StoreError(f"{folder} is no half of a prepared data set ({error}): {again}") from error
    table = pa.concat_tables(tables)
    if missing := set(schema.names) - set(table.column_names):
        raise StoreError(f"{directory} has no column {', '.join(sorted(missing))}: a data set of another kind")
    return table.select(schema.names)


def _mapped(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
        return stream.read_all()


def _fingerprint(name: str, table: pa.Table) -> str:
    """What `datasets` calls a table's state, from its content alone, so that the same data is the same bytes."""
    digest = hashlib.sha256(name.encode())
    for column in table.columns:
        for chunk in column.chunks:
            for buffer in chunk.buffers():
                digest.update(buffer or b"")
    return digest.hexdigest()[:16]
