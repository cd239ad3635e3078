"""Opens and closes a request for a transport, and telemetry itself for a process; counts nothing.

request = begin("grpc", "koine.v1.ConceptService/Encode", metadata)
try:
    ...
finally:
    finish(request, status="OK", outcome="ok")
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from opentelemetry.util.types import AttributeValue

from service.settings import Settings
from service.telemetry import access, lines, tracing
from service.telemetry.attributes import UNKNOWN_METHOD, encoding_attributes, transport_attributes
from service.telemetry.context import (
    Headers,
    Metadata,
    Outcome,
    Protocol,
    RequestContext,
    request_id,
)

log = logging.getLogger(__name__)


def begin(protocol: Protocol, method: str, metadata: Metadata) -> RequestContext:
    """The current request from now on, with the id and the trace that its client sent.

    Never raises, whatever the metadata holds.
    """
    headers = Headers(metadata)
    request = RequestContext(
        id=request_id(headers.request_id),
        protocol=protocol,
        method=method,
        traceparent=headers.traceparent,
        segment=headers.segment,
    )
    active = tracing.active()
    if active.on:
        try:
            span, request.trace = active.start(method, headers, request.started)
            request.span_context = span.get_span_context()
        except Exception:  # the edge of telemetry: the request is answered without a trace
            log.exception("no trace was begun for a request")
    request.enter()
    return request


def finish(
    request: RequestContext,
    *,
    status: str,
    outcome: Outcome,
    route: str | None = None,
    error: str | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> None:
    """Writes the access line, ends the spans, and leaves the request. Never raises.

    `status`: an HTTP status or the name of a gRPC code; `route`: an HTTP template, None where
    there is none; `error`: the class of an unforeseen error; `attributes`: more of the span's.
    """
    try:
        access.write(request, status=status, outcome=outcome, route=route)
        if request.trace is not None:
            about = transport_attributes(
                request, status=status, outcome=outcome, route=route, error=error
            )
            name = request.method if request.method != UNKNOWN_METHOD else "HTTP"
            request.trace.end(
                name if route is None else f"{name} {route}",
                {**about, **encoding_attributes(request), **(attributes or {})},
                failed=outcome == "error",
            )
    except Exception:  # the edge of telemetry: the request has been answered
        log.exception("telemetry of a request failed")
    finally:
        request.leave()


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[None]:
    """Telemetry of a process that serves: on from here, its last spans and lines out at the end."""
    access.configure(settings.access_log)
    with lines.never_blocking():
        active = tracing.setup()
        try:
            yield
        finally:
            tracing.install(tracing.OFF)
            await active.shutdown()
