"""Files that are there whole or not at all."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def partial_folder(target: str | Path) -> Iterator[Path]:
    """An empty folder beside `target` (so that a rename is atomic), removed at the end.

    Its name is fixed: what a killed job left there is removed by the next one.
    """
    target = Path(target)
    folder = target.parent / f".{target.name}.partial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def alone(path: str | Path, what: str) -> Iterator[None]:
    """While a block runs no other process is in one of the same `path`, which a file is made at and stays.

    what : that another process is doing there, to be said once by one that has to wait
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{what}: waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def publish(directory: str | Path, manifest: dict) -> Iterator[Path]:
    """A folder to write files into, which move to `directory` when the block ends without an error.

    The old manifest.json is removed first and the new one appears last: while it exists the directory is complete.
    What the old one lists and the new one does not is removed; other files of `directory` stay. The manifest gets the
    key `files`: {path within the folder: {"sha256", "bytes"}}.
    """
    directory = Path(directory)
    with partial_folder(directory) as folder:
        yield folder
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        files = {name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size} for name in names}
        text = json.dumps({**manifest, "files": files}, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
        directory.mkdir(exist_ok=True)
        stale = _listed(directory / "manifest.json") - set(names)
        (directory / "manifest.json").unlink(missing_ok=True)
        for name in stale:
            (directory / name).unlink(missing_ok=True)
        mode = (folder / "manifest.json").stat().st_mode
        for name in [*names, "manifest.json"]:
            (folder / name).chmod(mode)  # safetensors writes files only their owner may read
            (directory / name).parent.mkdir(exist_ok=True, parents=True)
            os.replace(folder / name, directory / name)


def _listed(manifest: Path) -> set[str]:
    """The files that a manifest speaks of, as far as it can be read; none that lies outside its folder."""
    try:
        names = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts}
