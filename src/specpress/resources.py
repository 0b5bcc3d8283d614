"""Where models and data come from, and how they reach the disk whole or not at all.

Nothing here imports torch: the workflow calls `download_name` while it is parsed.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def publish(directory: str | Path, manifest: dict) -> Iterator[Path]:
    """A folder to write files into, which become `directory` when the block ends; manifest.json appears last.

    The files are written to a temporary sibling and renamed one by one, after the old manifest has been removed: when
    manifest.json exists, the directory is complete, and a killed job leaves no manifest. Other files of `directory`
    stay. The manifest gets a key `files`: {name: {"sha256", "bytes"}}.
    """
    directory = Path(directory)
    partial = directory.parent / f".{directory.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        names = sorted(path.name for path in partial.iterdir())
        files = {name: {"sha256": sha256(partial / name), "bytes": (partial / name).stat().st_size} for name in names}
        text = json.dumps({**manifest, "files": files}, indent=2, sort_keys=True, ensure_ascii=False)
        (partial / "manifest.json").write_text(text + "\n", encoding="utf-8")
        directory.mkdir(exist_ok=True)
        (directory / "manifest.json").unlink(missing_ok=True)
        for name in [*names, "manifest.json"]:
            os.replace(partial / name, directory / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
