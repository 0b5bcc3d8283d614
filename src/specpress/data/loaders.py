"""Files of the formats that `datasets` has loaders for (text, JSON, parquet), as rows; its errors in words."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType


class LoaderError(ValueError):
    """A file that a loader could not read; the message is the loader's own."""


def quiet_datasets() -> ModuleType:
    """The library `datasets`, imported where it is used, without its progress bars and log."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    return datasets


def load_rows(loader: str, path: str | Path, **options) -> Iterator[dict]:
    """The rows of a file, by the loader of that name ("text", "json", "parquet"); compressed files are unpacked.

    Nothing is left in the cache of `datasets`. Options go to the loader.

    Raises
    ------
    LoaderError
        If the loader cannot read it.
    """
    datasets = quiet_datasets()
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "data")  # a name without wildcards, which paths given to a loader may hold
        link.symlink_to(Path(path).resolve())
        try:
            table = datasets.load_dataset(loader, data_files=str(link), split="train", cache_dir=folder, **options)
        except Exception as error:  # of the loader's parsers any
            raise LoaderError(_first_cause(error)) from error
        try:
            yield from table
        except UnicodeDecodeError as error:  # it looks at texts when they are asked for
            raise LoaderError(_first_cause(error)) from error


def _first_cause(error: BaseException) -> str:
    """What the innermost error says, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{error}".split()) or type(error).__name__
