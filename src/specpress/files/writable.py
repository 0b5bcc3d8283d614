"""Whether there can be written, asked before anything is computed that would have to be."""

import os
from collections.abc import Iterable
from pathlib import Path


def obstacles(folders: Iterable[str | Path]) -> list[str]:
    """What keeps files from being written to these folders, one line a cause; a folder need not exist yet."""
    return list(dict.fromkeys(line for folder in folders if (line := _obstacle(Path(folder)))))


def _obstacle(folder: Path) -> str | None:
    """What is in the way, at the nearest path that exists."""
    place = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not place.exists():
        return f"{place} is a link to {os.readlink(place)}, which does not exist: make that folder, or remove the link"
    if not place.is_dir():
        return f"{place} is a file, and {folder} has to be a folder: move it away"
    if not os.access(place, os.W_OK | os.X_OK):
        return (
            f"{place.absolute()} cannot be written to: change its permissions (chmod u+wx), or work on a copy "
            "elsewhere if its file system is read-only"
        )
    return None
