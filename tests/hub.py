"""The Hugging Face hub's protocol, as far as downloads and uploads of a model go, on this machine.

Files are kept by repository and commit. Resolving, ranges, creating, preupload, LFS batch (basic
transfer), YAML check and commits are spoken as huggingface_hub's client speaks them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest
from huggingface_hub import constants

CLOSED = "http://127.0.0.1:9"
"""Nothing listens on the discard port."""
LFS_FROM = 4096
"""Bytes above which a file is uploaded through LFS."""


def point_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What setting HF_ENDPOINT before the start would do."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


class LocalHub:
    """What the server holds and has seen."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.refs: dict[tuple[str, str], str] = {}
        self.private: dict[str, bool] = {}
        self.blobs: dict[str, bytes] = {}
        self.token: str | None = None
        """Needed for everything, if set."""
        self.cut_after: int | None = None
        """Bytes after which every download's connection is closed."""
        self.seen: list[tuple[str, str]] = []
        """Method and path of each request."""

    def commit(self, repository: str, files: dict[str, bytes], ref: str = "main") -> str:
        """A new commit that adds `files` to what `ref` held."""
        before = self.commits.setdefault(repository, {}).get(self.refs.get((repository, ref), ""))
        held = {**(before or {}), **files}
        digest = hashlib.sha1(repr(sorted(held.items())).encode()).hexdigest()
        self.commits[repository][digest] = held
        self.refs[repository, ref] = digest
        return digest

    def find(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit that a revision stands for."""
        commit = self.refs.get((repository, revision), revision)
        files = self.commits.get(repository, {}).get(commit)
        return None if files is None else (commit, files)


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub

    def do_HEAD(self) -> None:
        self._get(body=False)

    def do_GET(self) -> None:
        self._get(body=True)

    def do_PUT(self) -> None:
        data = self._body()
        self.hub.blobs[hashlib.sha256(data).hexdigest()] = data
        self._send(200)

    def do_POST(self) -> None:
        data = self._body()
        if not self._allowed():
            return
        parts = self.path.split("?")[0].strip("/").split("/")
        if self.path == "/api/repos/create":
            self._create(json.loads(data))
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif parts[-3:] == ["lfs", "objects", "batch"]:
            self._batch(json.loads(data))
        elif parts[4] == "preupload":
            self._preupload(json.loads(data))
        elif parts[4] == "branch":
            self._branch("/".join(parts[2:4]), unquote(parts[5]))
        elif parts[4] == "commit":
            self._commit("/".join(parts[2:4]), unquote(parts[5]), data)
        else:
            self._send(404)

    def log_message(self, format: str, *args: object) -> None:
        return

    def _allowed(self) -> bool:
        self.hub.seen.append((self.command, self.path))
        wanted = f"Bearer {self.hub.token}"
        if self.hub.token and self.headers.get("Authorization") != wanted:
            self._send(401, {"X-Error-Message": "Invalid username or password."})
            return False
        return True

    def _get(self, *, body: bool) -> None:
        if self.path == "/":
            self._send(200)
            return
        if not self._allowed():
            return
        if self.path.startswith("/api/"):
            self._repository("/".join(self.path.split("/")[3:5]))
            return
        owner, name, what, revision, file = unquote(self.path).strip("/").split("/", 4)
        found = self.hub.find(f"{owner}/{name}", revision) if what == "resolve" else None
        if found is None:
            known = f"{owner}/{name}" in self.hub.commits
            code = "RevisionNotFound" if known else "RepoNotFound"
            self._send(404, {"X-Error-Code": code})
        elif file not in found[1]:
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found[0]})
        else:
            self._file(*found, file, body)

    def _repository(self, repository: str) -> None:
        commit = self.hub.refs.get((repository, "main"))
        if commit is None:
            self._send(404)
        else:
            self._json({"id": repository, "sha": commit, "siblings": []})

    def _file(self, commit: str, files: dict[str, bytes], file: str, body: bool) -> None:
        whole = files[file]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        data = whole[start:]
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha256(whole).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.end_headers()
        if body:
            self.wfile.write(data[: self.hub.cut_after])
            if self.hub.cut_after is not None and len(data) > self.hub.cut_after:
                self.close_connection = True

    def _create(self, asked: dict[str, Any]) -> None:
        repository = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if repository in self.hub.commits:
            self._json({"url": f"{constants.ENDPOINT}/{repository}"}, 409)
            return
        self.hub.private[repository] = (
            asked.get("private") is True or asked.get("visibility") == "private"
        )
        self.hub.commit(repository, {".gitattributes": b"*.onnx filter=lfs\n"})
        self._json({"url": f"{constants.ENDPOINT}/{repository}", "name": repository})

    def _branch(self, repository: str, branch: str) -> None:
        key = (repository, branch)
        status = 409 if key in self.hub.refs else 200
        self.hub.refs.setdefault(key, self.hub.refs[repository, "main"])
        self._json({}, status)

    def _preupload(self, asked: dict[str, Any]) -> None:
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["size"] > LFS_FROM else "regular",
                "shouldIgnore": False,
            }
            for file in asked["files"]
        ]
        self._json({"files": modes})

    def _batch(self, asked: dict[str, Any]) -> None:
        upload = {"upload": {"href": f"{constants.ENDPOINT}/blob"}}
        objects = [{**each, "actions": upload} for each in asked["objects"]]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, repository: str, revision: str, data: bytes) -> None:
        files: dict[str, bytes] = {}
        for line in data.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        commit = self.hub.commit(repository, files, revision)
        url = f"{constants.ENDPOINT}/{repository}/commit/{commit}"
        self._json({"commitUrl": url, "commitOid": commit, "pullRequestUrl": None})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts: list[bytes] = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _json(self, content: object, status: int = 200) -> None:
        self._send(status, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def _send(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def local_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A hub on a free port that huggingface_hub is pointed at."""
    hub = LocalHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    point_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
