"""A stand-in for the Hugging Face hub on this machine, speaking its protocol to the real client.

It serves folders as models: commits are hashes of the content, `main` is the newest, safetensors
are stored as large files (served by redirect from another host name). Faults are switched on by
attributes, and every request is written down.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOKEN = "hf_right"


@dataclass(frozen=True)
class Request:
    """One request as the server saw it."""

    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class HubServer:
    """A running hub: where it is, what to go wrong, what was asked."""

    models: Mapping[str, Path]
    url: str = ""
    storage_url: str = ""
    cut_after: int | None = None
    status: int | None = None
    broken: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    claimed_sizes: dict[str, int] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def commit(self, model: str) -> str:
        """Return the 40 hex digits of the only commit of a model."""
        folder = self.models[model]
        content = b"".join(
            name.encode() + (folder / name).read_bytes() for name in self.files(model)
        )
        return hashlib.sha1(content).hexdigest()

    def files(self, model: str) -> list[str]:
        """Return the paths of a model's files, sorted."""
        folder = self.models[model]
        return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())

    def downloads(self, name: str) -> list[Request]:
        """Return the GET requests that asked for the bytes of a file."""
        return [r for r in self.requests if r.method == "GET" and r.path.endswith("/" + name)]


@contextmanager
def hub_server(folder_by_repo: Mapping[str, Path]) -> Iterator[HubServer]:
    """Serve folders as hub models on a free port of this machine."""
    hub = HubServer(dict(folder_by_repo))
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    hub.storage_url = f"http://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(
            Request(self.command, path, self.headers["Range"], self.headers["Authorization"])
        )
        if self.hub.status is not None:
            return self._send(self.hub.status, b"out of order")
        if path.startswith("/api/models/"):
            return self._answer_api(path.removeprefix("/api/models/"))
        if path.startswith("/large/"):
            model, _, name = path.removeprefix("/large/").partition("//")
            if name in self.hub.broken:
                return self._send(500, b"out of order")
            return self._send_file(self.hub.models[model] / name)
        model, _, rest = path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if self._may_read(model, files=True) and self._has_revision(model, revision):
            self._answer_file(model, name)

    def _answer_api(self, rest: str) -> None:
        for separator in ("/revision/", "/tree/"):
            model, found, revision = rest.partition(separator)
            if found:
                break
        revision = revision.strip("/") or "main"
        if not (self._may_read(model, files=False) and self._has_revision(model, revision)):
            return
        files = [self._entry(model, name) for name in self.hub.files(model)]
        if separator == "/tree/" and found:
            return self._send_json([{"type": "file", **entry} for entry in files])
        siblings = [{**entry, "rfilename": entry["path"]} for entry in files]
        self._send_json({"id": model, "sha": self.hub.commit(model), "siblings": siblings})

    def _entry(self, model: str, name: str) -> dict[str, object]:
        content = (self.hub.models[model] / name).read_bytes()
        size = self.hub.claimed_sizes.get(name, len(content))
        entry: dict[str, object] = {
            "path": name,
            "size": size,
            "oid": hashlib.sha1(content).hexdigest(),
            "blobId": hashlib.sha1(content).hexdigest(),
        }
        if _is_large(name):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha256, "sha256": sha256, "size": size, "pointerSize": 134}
        return entry

    def _answer_file(self, model: str, name: str) -> None:
        path = self.hub.models[model] / name
        if not path.is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        commit = {"X-Repo-Commit": self.hub.commit(model)}
        if not _is_large(name):
            return self._send_file(path, commit)
        content = path.read_bytes()
        self._send(
            302,
            b"",
            commit
            | {
                "Location": f"{self.hub.storage_url}/large/{model}//{name}",
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
            },
        )

    def _may_read(self, model: str, *, files: bool) -> bool:
        allowed = self.headers["Authorization"] == f"Bearer {TOKEN}"
        if model not in self.hub.models or (model in self.hub.private and not allowed):
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
            return False
        if files and model in self.hub.gated and not allowed:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
            return False
        return True

    def _has_revision(self, model: str, revision: str) -> bool:
        if revision in ("main", self.hub.commit(model)):
            return True
        self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        return False

    def _send_file(self, path: Path, headers: Mapping[str, str] | None = None) -> None:
        content = path.read_bytes()
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', **(headers or {})}
        wanted = self.headers["Range"]
        if wanted is None:
            return self._send(200, content, headers)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        self._send(206, content[start : end + 1], headers)

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        limit, large = self.hub.cut_after, self.path.startswith("/large/")
        if limit is not None and large and limit < len(body):
            self.hub.cut_after = None
            self.wfile.write(body[:limit])
            self.wfile.flush()
            self.connection.close()
            self.close_connection = True
            return
        self.wfile.write(body)


def _is_large(name: str) -> bool:
    return name.endswith(".safetensors")
