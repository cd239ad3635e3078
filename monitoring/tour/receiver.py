"""A webhook that keeps and tells what Alertmanager sends."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Notice(NamedTuple):
    """One alert as it arrived."""

    status: str
    """`firing` or `resolved`."""
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]

    def __str__(self) -> str:
        says = self.annotations.get("summary", "")
        more = self.annotations.get("description", "") if self.status == "firing" else ""
        return f"{self.status.upper()} {self.name}: {says}" + (f"\n    {more}" if more else "")


class Receiver:
    """Listens on the loopback for the length of a `with` block."""

    def __init__(self, tell: Callable[[Notice], None] = lambda _: None) -> None:
        """`tell` hears each notice, in a thread of the server."""
        self.notices: list[Notice] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                receiver.take(json.loads(self.rfile.read(length)), tell)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing: notices are told."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, sent: dict[str, Any], tell: Callable[[Notice], None]) -> None:
        """Keeps what is new: a group is sent again with each change in it."""
        for alert in sent["alerts"]:
            labels, name = alert["labels"], alert["labels"]["alertname"]
            notice = Notice(alert["status"], name, labels, alert["annotations"])
            known = [one.status for one in self.notices if one.labels == labels]
            if known[-1:] != [notice.status]:
                self.notices.append(notice)
                tell(notice)

    def rings(self, name: str) -> bool:
        """Whether an alert of that name rings now."""
        latest = {tuple(sorted(one.labels.items())): one for one in self.notices}
        return any(one.name == name and one.status == "firing" for one in latest.values())
