"""Files of text and parquet, as rows, by the loaders of `datasets`; what is wrong with a file in words."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip")  # of which what unpacks them alone knows what they hold


class ReaderError(ValueError):
    """A file is not what its reader expects."""


class LoaderError(ValueError):
    """A file that a loader could not read; the message is the loader's own."""


def quiet_datasets() -> ModuleType:
    """The library `datasets`, imported where it is used, without its progress bars and log."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    return datasets


def load_rows(loader: str, path: str | Path, **options) -> Iterator[dict]:
    """The rows of a file, by the loader of that name ("text", "parquet"); compressed files are unpacked.

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


def whole_text(path: Path) -> str:
    """The text of a UTF-8 file, in one piece.

    Raises
    ------
    ReaderError
        With the first byte that is none of UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReaderError(f"{path} is not UTF-8 (byte {error.start}); convert it, for example with iconv") from error
