"""A server on loopback that answers each request by a script: also half, never, or with garbage."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


class Silence(float):
    """Seconds of no answer."""


Answer = bytes | Callable[[Asked], bytes] | Silence
"""Raw bytes, after which the connection closes; or silence before it does."""


def http(status: int, body: Any, **headers: str) -> bytes:
    """A whole HTTP answer with a JSON body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (
        f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n{head}Connection: close\r\n\r\n"
    ).encode() + content


def problem(status: int, kind: str, **headers: str) -> bytes:
    """A refusal as the service writes it."""
    body = {"type": f"urn:koine:error:{kind}", "title": kind, "status": status}
    return http(status, body | {"detail": f"refused: {kind}"}, **headers)


INFO: dict[str, Any] = {
    "dictionary": "tiny@0.1", "dictionaries": ["tiny@0.1"], "digest": "d", "num_concepts": 64,
    "k": 8, "joint": "sum", "max_batch": 32, "provider": "CPUExecutionProvider",
    "versions": {"koine": "0.1.0"},
    "streams": [
        {"name": "tiny_a", "modality": "image", "d_in": 24, "accepts": ["image", "activations"],
         "encoder": "e", "revision": None, "added_later": 1}
    ],
    "limits": {"body_bytes": 1_000_000, "items": 8, "queue_items": 512,
               "inflight_bytes": 100_000_000, "timeout_seconds": 60.0},
}  # fmt: skip


def encoded(asked: Asked) -> bytes:
    """An empty code for each item, its id the wrong one: a client goes by the order."""
    codes = {"s": {"indices": [1], "values": [0.5], "fvu": None}}
    results = [{"id": "other", "codes": codes} for _ in asked.json["inputs"]]
    return http(200, {"dictionary": "tiny@0.1", "results": results})


class Canned:
    """What was asked, and where to ask."""

    def __init__(self, script: Callable[[Asked, int], Answer]) -> None:
        """`script` answers a request, given its number; `/v1/info` is answered by itself."""
        self.asked: list[Asked] = []
        self.info: dict[str, Any] = INFO
        self.refuse_info: bytes | None = None
        self.linger: threading.Event | None = None
        """Where set, connections stay open after an answer until the event."""
        self._script = script
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()

    def serve(self) -> None:
        """Until the listener is closed."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=(connection,))
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Ends every thread."""
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(10)
            try:
                asked = read(connection)
                if asked is None:
                    return
                answer = self._of(asked)
                if isinstance(answer, Silence):
                    self._over.wait(answer)
                else:
                    connection.sendall(answer)
                    if self.linger is not None and "/v1/info" not in asked.path:
                        self.linger.wait(60)
            except OSError:
                return  # the client left

    def _of(self, asked: Asked) -> bytes | Silence:
        if "/v1/info" in asked.path:
            return self.refuse_info or http(200, self.info)
        with self._lock:
            number = len(self.asked)
            self.asked.append(asked)
        answer = self._script(asked, number)
        return answer(asked) if callable(answer) else answer


def read(connection: socket.socket) -> Asked | None:
    """One request; None where the client closed before it was whole."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65536)):
            return None
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    first, *lines = head.decode().split("\r\n")
    headers = {k.strip().lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        if not (more := connection.recv(65536)):
            return None
        body += more
    method, path, _ = first.split(" ")
    return Asked(method, path, headers, body, time.monotonic())


@contextmanager
def canned(script: Callable[[Asked, int], Answer]) -> Iterator[Canned]:
    """A running server, ended afterwards."""
    server = Canned(script)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(30)
