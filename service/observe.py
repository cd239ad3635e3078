"""Counts and times each request, and is the edge where an unforeseen error ends; no endpoint."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from koine.errors import KoineError
from service.errors import problem
from service.metrics import INFLIGHT, OTHER_ROUTE, PROBES, REQUEST_SECONDS, REQUESTS, ROUTES

CLIENT_GONE = 499
"""Status in the metrics of a request whose client left; it is never sent."""

log = logging.getLogger(__name__)


class Observe:
    """ASGI middleware around the whole app; probes and scrapes go by uncounted."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        route = scope["path"] if scope["path"] in ROUTES else OTHER_ROUTE
        status = CLIENT_GONE  # stands if a cancellation ends the request

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        start = time.perf_counter()
        INFLIGHT.inc()
        try:
            await self._app(scope, receive, noting)
        except Exception:  # the process edge: nobody above could answer
            log.exception("an unforeseen error ended a request to %s", route)
            if status == CLIENT_GONE:
                fault = KoineError("an unforeseen error; the server's log says more")
                await problem(fault)(scope, receive, noting)
        finally:
            INFLIGHT.dec()
            REQUESTS.labels(route, outcome(status)).inc()
            REQUEST_SECONDS.labels(route).observe(time.perf_counter() - start)


def outcome(status: int) -> str:
    """The label of an HTTP status."""
    if status < 400:
        return "ok"
    named = {CLIENT_GONE: "cancelled", 429: "overloaded"}
    return named.get(status, "client_error" if status < 500 else "error")
