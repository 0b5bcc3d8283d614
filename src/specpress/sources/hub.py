"""Files of a model hub: one pinned revision, safetensors and JSON only, checked, kept in huggingface_hub's cache.

The environment decides as everywhere: HF_ENDPOINT is the hub, HF_HOME the cache, HF_TOKEN a token, HF_HUB_OFFLINE=1
uses the cache alone. Nothing here imports torch.
"""

import fcntl
import hashlib
import os
import sys
import time
from pathlib import Path

import httpx
from huggingface_hub import (
    constants,
    errors,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import build_hf_headers

from specpress.files.publish import sha256
from specpress.sources.errors import SourceError

# Pickles (*.bin) and Python files can run code when they are read, so they are never downloaded.
MODEL_FILES = ["*.json", "*.safetensors", "tokenizer.model", "merges.txt", "chat_template.jinja"]
# What lies in folders, and the same weights once more in Mistral's own layout.
_LEFT_THERE = ["*/*", "consolidated*.safetensors"]
_PASSING = {408, 429, 500, 502, 503, 504}


class _WrongHash(OSError):
    """A file in the cache that is not what the hub says it is; it has been removed."""


def download_model(repo: str, revision: str | None = None, **patience) -> Path:
    """The folder of a model's configuration, safetensors weights and tokenizer.

    Parameters
    ----------
    repo : str, "owner/name"
    revision : str, a full commit; None takes the newest
    patience : `attempts` and `wait`, see `persist`

    Raises
    ------
    SourceError
        If the repository cannot be had, or holds no safetensors weights at this revision.
    """

    def fetch() -> Path:
        wanted = {"revision": revision, "allow_patterns": MODEL_FILES, "ignore_patterns": _LEFT_THERE}
        if not constants.HF_HUB_OFFLINE:
            for file in snapshot_download(repo, **wanted, dry_run=True):
                if file.will_download:
                    _fetch_content(repo, revision, file.filename, "model")
        return Path(snapshot_download(repo, **wanted))

    folder = persist(fetch, repo, revision, **patience)
    if not any(folder.glob("*.safetensors")):
        raise SourceError(
            f"{_name(repo, revision)} holds no safetensors weights. Pickled weights (*.bin) can run code when they are "
            "read and are never downloaded: choose a revision that has *.safetensors, or convert the model where you "
            "trust it and use source: {kind: path, path: <folder>}"
        )
    return folder


def download_config(repo: str, revision: str | None = None, **patience) -> tuple[Path, str]:
    """The folder that holds a model's configuration, without its weights, and the commit that it is of: the newest.

    revision : or this one, a full commit

    Raises
    ------
    SourceError
        If the repository cannot be had, or holds no config.json.
    """
    wanted = {"revision": revision, "allow_patterns": ["config.json"]}
    found = persist(lambda: Path(snapshot_download(repo, **wanted)) / "config.json", repo, revision, **patience)
    folder = found.parent
    if not (folder / "config.json").is_file():
        raise SourceError(f"{repo} holds no config.json: it is not a model in Hugging Face's format")
    return folder, folder.name


def download_file(repo: str, revision: str, file: str, **patience) -> Path:
    """One file of a data set, such as `wikitext-2-raw-v1/test-00000-of-00001.parquet`.

    Raises
    ------
    SourceError
        If the file cannot be had.
    """

    def fetch() -> Path:
        cached = try_to_load_from_cache(repo, file, revision=revision, repo_type="dataset")
        if not constants.HF_HUB_OFFLINE and not isinstance(cached, str):
            _fetch_content(repo, revision, file, "dataset")
        return Path(hf_hub_download(repo, file, revision=revision, repo_type="dataset"))

    return persist(fetch, repo, revision, file=file, **patience)


def _fetch_content(repo: str, revision: str | None, file: str, kind: str) -> None:
    """Fetch a large file's content into the cache, going on where a process that was killed left off.

    huggingface_hub does so within one process only: what is unfinished has another name each time
    (`file_download._download_to_tmp_and_move`). Content that is there under its hash it only links. Small files, which
    a hub may send compressed, are left to it.
    """
    url = hf_hub_url(repo, file, revision=revision, repo_type=kind)
    known = get_hf_file_metadata(url)
    if len(known.etag or "") != 64:  # not a SHA-256: a small file
        return
    blob = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo, repo_type=kind), "blobs", known.etag)
    blob.parent.mkdir(parents=True, exist_ok=True)
    partial = blob.with_name(f"{blob.name}.partial")
    partial.touch()
    with partial.open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        size = stream.seek(0, os.SEEK_END)
        if size > (known.size or 0):
            size = stream.truncate(stream.seek(0))
        http_get(url, stream, resume_size=size, headers=build_hf_headers(), expected_size=known.size)
        if not blob.exists():
            partial.replace(blob)
    partial.unlink(missing_ok=True)


def files(path: Path) -> dict[str, dict]:
    """{name: {"sha256", "bytes"}} of a downloaded file, or of each in a downloaded folder, for a manifest."""
    found = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    return {file.name: {"sha256": sha256(file), "bytes": file.stat().st_size} for file in found}


def persist(fetch, repo: str, revision: str | None, *, file: str | None = None, attempts=4, wait=2.0) -> Path:
    """`fetch` until it succeeds, and check what it fetched; what may pass (a busy hub, a cut connection) is retried.

    Parameters
    ----------
    attempts : int
    wait : float
        Seconds before the second attempt; doubled before each further one.
    """
    name = _name(repo, revision) + (f", file {file}" if file else "")
    for attempt in range(1, attempts + 1):
        _say(f"fetching {name} (attempt {attempt} of {attempts})")
        try:
            path = fetch()
            _check(path)
            return path
        except (httpx.HTTPError, OSError, errors.EntryNotFoundError) as error:
            if attempt == attempts or not _may_pass(error):
                raise SourceError(f"{name} could not be fetched: {_reason(error, attempt)}") from error
            _say(f"{error}".strip())
        time.sleep(wait * 2 ** (attempt - 1))
    raise AssertionError("unreachable")


def _check(path: Path) -> None:
    """Compare each file with the hash by which the cache names its content (the hub's ETag).

    That is the SHA-256 of a large file and the git hash of a small one. A cache without links has no such names.

    Raises
    ------
    _WrongHash
        If one differs. It is removed from the cache.
    """
    for file in (p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path] * path.is_file():
        blob = file.resolve()
        expected = blob.name
        if not file.is_symlink() or len(expected) not in (40, 64):
            continue
        found = sha256(blob) if len(expected) == 64 else _git_hash(blob)
        if found != expected:
            file.unlink()
            blob.unlink()
            raise _WrongHash(f"{file.name} has the wrong hash.\n  expected {expected}\n  got      {found}")


def _git_hash(path: Path) -> str:
    """The hash git gives a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error and what it came from: huggingface_hub wraps the reason in "not in the cache"."""
    found = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__
    return found


def _status(error: BaseException) -> int | None:
    codes = [e.response.status_code for e in _causes(error) if isinstance(e, errors.HfHubHTTPError)]
    return codes[0] if codes else None


def _may_pass(error: BaseException) -> bool:
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in _causes(error)):
        return False
    status = _status(error)
    if status is not None:
        return status in _PASSING
    # an OSError of the plain kind: huggingface_hub's check of the size
    return type(error) in (OSError, _WrongHash) or any(isinstance(c, httpx.TransportError) for c in _causes(error))


def _reason(error: BaseException, attempts: int) -> str:
    """What went wrong and what to do about it."""
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in _causes(error)):
        return (
            f"HF_HUB_OFFLINE is set and the cache ({constants.HF_HUB_CACHE}) does not hold all of it. Fetch it once "
            "with a network, copy that cache here and name its parent folder in HF_HOME, or use source: {kind: path}"
        )
    if isinstance(error, _WrongHash):
        return f"{error}\nIt was removed, {attempts} times: the hub or something before it ({_endpoint()}) is broken"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision; `revision` is the full commit, as its page of commits shows it"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return "the repository has no such file at this revision; `file` is its path there"
    status = _status(error)
    if status in (401, 403) or isinstance(error, errors.RepositoryNotFoundError):
        token = (
            "the token in HF_TOKEN may not read it" if os.environ.get("HF_TOKEN") else "it needs a token in HF_TOKEN"
        )
        return f"{_endpoint()} has no such repository, or {token} (HTTP {status})"
    if status == 429:
        return (
            f"{_endpoint()} asks to wait (HTTP 429); try again later, or set HF_TOKEN: known users may ask more often"
        )
    if status is not None:
        return f"{_endpoint()} answered HTTP {status} ({attempts} attempts); try again later"
    return f"{_causes(error)[-1]} ({_endpoint()}, {attempts} attempts); run again: what has been downloaded is kept"


def _endpoint() -> str:
    return f"the hub at {constants.ENDPOINT}"


def _name(repo: str, revision: str | None) -> str:
    return f"{repo} at revision {revision}" if revision else repo


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
