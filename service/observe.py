"""Counts each HTTP request, has it logged and traced, and is the edge where an unforeseen error
ends; no endpoint.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from opentelemetry.util.types import AttributeValue
from starlette.datastructures import MutableHeaders
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from koine.errors import KoineError
from service import metrics, telemetry
from service.errors import problem
from service.metrics import INFLIGHT, OTHER_ROUTE, PROBES, REQUEST_SECONDS, REQUESTS
from service.telemetry import Outcome, RequestContext
from service.telemetry.attributes import known_method

CLIENT_GONE = 499
"""Status in the metrics of a request whose client left; it is never sent."""
_MOST_CHARS = 256
"""Of a string that a client chose, in a span."""

log = logging.getLogger(__name__)


class Observe:
    """ASGI middleware around the whole app; probes and scrapes go by uncounted."""

    def __init__(self, app: ASGIApp, *, routes: Sequence[BaseRoute]) -> None:
        """`routes`: the app's own; their templates are all the labels that there are."""
        self._app, self._routes = app, routes
        # by identity: routes have an equality of their own and no hash
        self._templates = {id(route): template for template, route in _templates(routes)}
        metrics.prepare_routes({*self._templates.values(), OTHER_ROUTE})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        request = telemetry.begin("http", known_method(scope["method"]), scope["headers"])
        answer = _Answer(send, request.id)
        error: str | None = None
        INFLIGHT.inc()
        try:
            await self._app(scope, receive, answer.send)
        except Exception as fault:  # the process edge: nobody above could answer
            error = type(fault).__qualname__
            log.exception("an unforeseen error ended a request to %s", self._template(scope))
            if not answer.begun:
                told = KoineError("an unforeseen error; the server's log says more")
                await problem(told)(scope, receive, answer.send)
        finally:
            INFLIGHT.dec()
            self._finish(request, scope, answer.status, error)

    def _finish(
        self, request: RequestContext, scope: Scope, status: int, error: str | None
    ) -> None:
        template = self._template(scope)
        # an error after the answer had begun cut it short, whatever its status says
        result: Outcome = outcome(status) if error is None else "error"
        _count(template or OTHER_ROUTE, result, time.perf_counter() - request.started)
        telemetry.finish(
            request,
            status=str(status),
            outcome=result,
            route=template,
            error=error,
            attributes=_attributes(scope) if request.trace is not None else None,
        )

    def _template(self, scope: Scope) -> str | None:
        """The template of the route that Starlette matched; None for a path that is no endpoint."""
        route = scope.get("route")
        if route is None:  # refused before the router, or nowhere
            matching = (each for each in self._routes if each.matches(scope)[0] is not Match.NONE)
            route = next(matching, None)
        return self._templates.get(id(route))


class _Answer:
    """What is sent, with the request's id in its headers."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id = send, request_id
        self.begun = False
        self.status = CLIENT_GONE  # stands if a cancellation ends the request

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
            MutableHeaders(scope=message)[telemetry.REQUEST_ID_HEADER] = self._request_id
        await self._send(message)


def _count(route: str, result: Outcome, seconds: float) -> None:
    REQUESTS.labels(route, result).inc()
    REQUEST_SECONDS.labels(route).observe(seconds)


def outcome(status: int) -> Outcome:
    """The label of an HTTP status."""
    if status == CLIENT_GONE:
        return "cancelled"
    if status == 429:
        return "overloaded"
    if status < 400:
        return "ok"
    return "client_error" if status < 500 else "error"


def _templates(routes: Sequence[BaseRoute], prefix: str = "") -> list[tuple[str, BaseRoute]]:
    """Every route that is counted, with its template, those below mounts too."""
    found: list[tuple[str, BaseRoute]] = []
    for route in routes:
        if isinstance(route, Route | Mount):
            # without the convertors: `/v1/concepts/{id}`, whatever an id may be
            template = prefix + (route.path_format if isinstance(route, Route) else route.path)
            if template not in PROBES:
                found.append((template, route))
            if isinstance(route, Mount):
                found += _templates(route.routes, template)
    return found


def _attributes(scope: Scope) -> dict[str, AttributeValue]:
    """What the conventions want of an HTTP request; no query, which may hold what is searched."""
    about: dict[str, AttributeValue] = {
        "url.scheme": str(scope.get("scheme", "http")),
        "url.path": str(scope["path"])[:_MOST_CHARS],
        "network.protocol.version": str(scope.get("http_version", "1.1")),
    }
    if server := scope.get("server"):
        about["server.address"] = str(server[0])
        if server[1] is not None:
            about["server.port"] = int(server[1])
    for name, value in scope["headers"]:
        if name == b"user-agent":
            about["user_agent.original"] = value.decode("latin-1")[:_MOST_CHARS]
    return about
