"""The request that is being answered: its id and what is known of it; writes and sends nothing."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Iterable
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Literal

from opentelemetry.trace import SpanContext, format_span_id, format_trace_id

from koine.drift.segments import SEGMENT_HEADER
from service.telemetry.spans import Trace
from service.timings import Timings

Protocol = Literal["http", "grpc"]
Outcome = Literal["ok", "client_error", "overloaded", "error", "cancelled"]
Metadata = Iterable[tuple[str | bytes, str | bytes]]
"""Headers as ASGI has them, or the metadata of a gRPC call."""

REQUEST_ID_HEADER = "x-request-id"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_IDS = random.Random()
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-")


@dataclass(slots=True, eq=False, kw_only=True)
class RequestContext:
    """One request, whichever transport it came by."""

    id: str
    """From the client where it is sane, else made."""
    protocol: Protocol
    method: str
    """An HTTP method, or a gRPC method such as `koine.v1.ConceptService/Encode`."""
    traceparent: str | None = None
    """As it came; a trace's id may stand in the log where no traces are taken."""
    segment: str | None = None
    """What the client says this traffic belongs to, as it came."""
    started: float = field(default_factory=time.perf_counter)
    items: int | None = None
    dictionary: str | None = None
    """`name@version`."""
    key: str | None = None
    """Name of the API key; never the key."""
    key_id: str | None = None
    """Its id, where there are keys."""
    timings: Timings | None = None
    span_context: SpanContext | None = None
    trace: Trace | None = None
    """None unless this request's spans are recorded."""
    token: Token[RequestContext | None] | None = None

    @property
    def trace_id(self) -> str | None:
        """32 hex digits: of the span, or those that the client sent."""
        if self.span_context is not None:
            return format_trace_id(self.span_context.trace_id)
        sent = _TRACEPARENT.match(self.traceparent or "")
        return sent[1] if sent else None

    @property
    def span_id(self) -> str | None:
        """16 hex digits."""
        return None if self.span_context is None else format_span_id(self.span_context.span_id)

    def enter(self) -> None:
        """Makes it the current request of this task and of those that it starts."""
        self.token = _current.set(self)

    def leave(self) -> None:
        """Ends that."""
        token, self.token = self.token, None
        if token is not None:
            # a stream's generator may be closed in another context
            with contextlib.suppress(ValueError):
                _current.reset(token)


_current: ContextVar[RequestContext | None] = ContextVar("koine_request", default=None)


def current() -> RequestContext | None:
    """The request that this task works for."""
    return _current.get()


def note(
    *,
    items: int | None = None,
    dictionary: str | None = None,
    key: str | None = None,
    key_id: str | None = None,
    timings: Timings | None = None,
) -> None:
    """Adds what has become known to the current request; outside of one it does nothing."""
    request = _current.get()
    if request is None:
        return
    if items is not None:
        request.items = items
    if dictionary is not None:
        request.dictionary = dictionary
    if key is not None:
        request.key = key
    if key_id is not None:
        request.key_id = key_id
    if timings is not None:
        request.timings = timings


def instance_uri() -> str | None:
    """The current request as RFC 9457's `instance`."""
    request = _current.get()
    return None if request is None else f"urn:koine:request:{request.id}"


def request_id(sent: str | None) -> str:
    """What the client sent where it is 1 to 128 of `[A-Za-z0-9._-]`, else a new one.

    It tells requests apart and keeps no secret: the system's randomness would cost a system call,
    and the interpreter's lock with it.
    """
    return (
        sent if sent is not None and _SANE_ID.fullmatch(sent) else f"{_IDS.getrandbits(128):032x}"
    )


class Headers:
    """The few headers that telemetry reads; of several with one name, none is trusted."""

    __slots__ = ("request_id", "segment", "traceparent", "tracestate")

    def __init__(self, metadata: Metadata) -> None:
        found: dict[str, list[str]] = {
            name: [] for name in (REQUEST_ID_HEADER, SEGMENT_HEADER, "traceparent", "tracestate")
        }
        for name, value in metadata:
            values = found.get(name if isinstance(name, str) else name.decode("latin-1"))
            if values is not None:
                values.append(value if isinstance(value, str) else value.decode("latin-1"))
        self.request_id = _only(found[REQUEST_ID_HEADER])
        self.segment = ",".join(found[SEGMENT_HEADER]) if found[SEGMENT_HEADER] else None
        self.traceparent = _only(found["traceparent"])
        self.tracestate = ",".join(found["tracestate"])


def _only(values: list[str]) -> str | None:
    return values[0] if len(values) == 1 else None
