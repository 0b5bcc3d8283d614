"""A model hub on the loopback interface: as much of the protocol as huggingface_hub needs, and faults on demand.

GET  /api/{models,datasets}/OWNER/NAME/revision/REVISION     repository information; "main" is REVISION
GET  /api/{models,datasets}/OWNER/NAME/tree/REVISION[/FOLDER]    its files, with their hashes
HEAD /[datasets/]OWNER/NAME/resolve/REVISION/FILE            ETag, X-Linked-ETag, X-Repo-Commit, length
GET  the same                                                the content, ranges included
"""

import hashlib
import json
import re
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath

REVISION = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".parquet", ".bin")
_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)/(revision|tree)/([^/?]+)(?:/([^?]+))?")
_RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Hub:
    """What the server knows and did: `repositories` maps (kind, "owner/name") to {file: content}, at REVISION."""

    url: str = ""
    repositories: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    token: str | None = None  # asked for by every repository, if set
    errors: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # file or "tree": statuses to give
    cuts: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # file: bytes before the line breaks
    stalls: dict[str, int] = field(default_factory=dict)  # file: bytes before the line goes quiet, once
    quiet: threading.Event = field(default_factory=threading.Event)  # it has
    lies: dict[str, bytes] = field(default_factory=dict)  # file: content sent in place of the announced one
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # (method, path, range)

    def asked(self, method: str, ending: str) -> list[str | None]:
        """The ranges (None: all of it) of the requests so far whose path ends so."""
        return [part for verb, path, part in self.requests if verb == method and path.split("?")[0].endswith(ending)]


@contextmanager
def serve() -> Iterator[Hub]:
    """A running hub on a free port of 127.0.0.1."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hashes(name: str, content: bytes) -> tuple[str, str | None]:
    """(git hash, SHA-256 if the hub would store the file apart)."""
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return git, hashlib.sha256(content).hexdigest() if name.endswith(LARGE) else None


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def log_message(self, *arguments):
        pass

    def _answer(self, *, body: bool) -> None:
        self.hub.requests.append((self.command, self.path, self.headers.get("Range")))
        if api := _API.match(self.path):
            kind, name, what, revision, folder = api.groups()
            file = what
        elif resolve := _RESOLVE.match(self.path):
            kind, name, revision, file = resolve.groups()
            kind = "datasets" if kind else "models"
        else:
            return self._refuse(404)
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._refuse(401)
        if body and self.hub.errors[file]:
            return self._refuse(self.hub.errors[file].pop(0), **{"Retry-After": "0"})
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            return self._refuse(404, **{"X-Error-Code": "RepoNotFound"})
        if revision not in (REVISION, "main"):
            return self._refuse(404, **{"X-Error-Code": "RevisionNotFound"})
        if api:
            return self._listing(name, what, repository, folder)
        if file not in repository:
            return self._refuse(404, **{"X-Error-Code": "EntryNotFound", "X-Repo-Commit": REVISION})
        return self._file(file, repository[file], body)

    def _listing(self, name: str, what: str, repository: dict[str, bytes], folder: str | None) -> None:
        entries = []
        below = {path: text for path, text in repository.items() if not folder or path.startswith(f"{folder}/")}
        for path, content in sorted(below.items()):
            git, large = hashes(path, content)
            entry = {"type": "file", "path": path, "size": len(content), "oid": git}
            if large:
                entry["lfs"] = {"oid": large, "size": len(content), "pointerSize": 130}
            entries.append(entry)
        folders = {str(parent) for path in below for parent in PurePosixPath(path).parents} - {".", folder}
        entries += [{"type": "directory", "path": path, "oid": "0" * 40} for path in sorted(folders)]
        information = {"id": name, "sha": REVISION, "siblings": [{"rfilename": path} for path in repository]}
        text = json.dumps(entries if what == "tree" else information).encode()
        self._send(200, text, **{"Content-Type": "application/json"})

    def _file(self, file: str, content: bytes, body: bool) -> None:
        git, large = hashes(file, content)
        headers = {"ETag": f'"{git}"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
        if large:
            headers |= {"X-Linked-ETag": f'"{large}"', "X-Linked-Size": str(len(content))}
        content = self.hub.lies.get(file, content)
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start and body:
            first = int(start[1])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            content = content[first:]
        cut = self.hub.cuts[file].pop(0) if body and self.hub.cuts[file] else None
        stall = body and self.hub.stalls.pop(file, None)
        self._send(206 if start and body else 200, content, body=body, cut=cut or stall or None, stall=stall, **headers)

    def _refuse(self, status: int, **headers: str) -> None:
        self._send(status, b"{}", **headers)

    def _send(
        self, status: int, content: bytes, *, body=True, cut: int | None = None, stall=None, **headers: str
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(content[:cut])
        if stall:
            self.wfile.flush()
            self.hub.quiet.set()
            with suppress(ConnectionError):  # until the client is gone, one way or another
                self.connection.recv(1)
        if cut is not None:
            self.wfile.flush()
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
