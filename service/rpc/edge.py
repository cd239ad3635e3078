"""The edge of every call: access, bytes in flight, parsing, metrics, errors; knows no method.

Messages arrive here as bytes, so that they are counted before they are parsed and one that cannot
be parsed is answered like any other request that cannot be read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from koine.errors import (
    KoineError,
    NotReadyError,
    OverloadedError,
    RateLimitError,
    RequestError,
    TooLargeError,
)
from service import metrics, telemetry
from service.access.access import Access
from service.access.keys import ANONYMOUS, Key, Scope
from service.core import Core
from service.errors import STATUS
from service.observe import outcome
from service.rpc.overlap import overlapping
from service.rpc.status import Context, refuse
from service.telemetry.context import Outcome
from service.timings import Timings

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Metadata = Sequence[tuple[str, str | bytes]]


class Spend(Protocol):
    """Takes from what a caller may send for now. Raises `RateLimitError`."""

    def __call__(self, items: int = 0, *, requests: int = 0) -> None: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose call it is, and what may still be sent."""

    access: Access
    key: Key

    def __call__(self, items: int = 0, *, requests: int = 0) -> None:
        """Takes from the key's rate. Raises `RateLimitError`."""
        self.access.spend(self.key, items, requests=requests)


Authorize = Callable[[Metadata, str], Spend | None]
"""Given a call's metadata and the scope that it needs; raises `AccessError`. What it returns is
called for every message of the call, and with the number of its items."""

RequestT = TypeVar("RequestT", bound=Message)

WINDOW = 8
"""Requests of one stream that are under way at once."""
TIMINGS_TRAILER = "koine-timings"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Rpc:
    """One request of a call, beside its message."""

    context: Context
    arrived: float = field(default_factory=time.perf_counter)
    read_s: float = 0.0
    _: KW_ONLY
    limit: Spend | None = None

    def spend(self, items: int) -> None:
        """Takes the items from what the caller may send. Raises `RateLimitError`."""
        if self.limit is not None:
            self.limit(items)

    @property
    def person(self) -> str:
        """Who calls, for records that are kept."""
        return (self.limit.key if isinstance(self.limit, Caller) else ANONYMOUS).person

    @property
    def timeout_s(self) -> float | None:
        """What is left of the client's deadline; None without one."""
        return time_remaining(self.context)

    def timed(self, timings: Timings, read_s: float) -> Timings:
        """The timings with what the transport adds; `read_s` goes to parsing."""
        timings.read = self.read_s + read_s
        timings.total = time.perf_counter() - self.arrived
        metrics.STAGE_SECONDS.labels("read").observe(timings.read)
        return timings


@dataclass(slots=True)
class _Seen:
    """How a request ended, for the metrics."""

    outcome: Outcome = "cancelled"  # stands if a cancellation ends it
    status: str = "CANCELLED"

    def answered(self) -> None:
        self.outcome, self.status = "ok", "OK"

    def refused(self, error: KoineError) -> None:
        self.outcome, self.status = outcome(STATUS[type(error)].http), STATUS[type(error)].grpc
        # what a key is refused is counted where it is refused
        if isinstance(error, OverloadedError) and not isinstance(error, RateLimitError):
            metrics.REJECTED.labels("queue_full").inc()
        if isinstance(error, TooLargeError):
            metrics.REJECTED.labels("too_large").inc()


def authorize(access: Access, metadata: Metadata, scope: str) -> Spend:
    """The hook over the service's keys."""
    key = access.key_of_metadata(metadata)
    access.check(key, cast("Scope", scope))
    telemetry.note(key=key.name, key_id=key.known_id)
    return Caller(access, key)


class Edge:
    """Makes gRPC's handlers from functions of one message."""

    def __init__(self, core: Core, authorize: Authorize | None = None) -> None:
        self._core = core
        self._authorize = authorize
        self.under_way = 0
        """Requests that are being answered."""
        self.stopping = asyncio.Event()
        """Set it, and streams end once what was read is answered."""

    def unary(
        self,
        route: str,
        request_type: type[RequestT],
        handler: Callable[[RequestT, Rpc], Coroutine[Any, Any, Message]],
        scope: str,
    ) -> Handler:
        """One message in, one out."""

        async def serve(raw: bytes, context: Context) -> Message:
            with self._observed(route, context) as seen:
                error: KoineError
                try:
                    rpc = Rpc(context, limit=self._admitted(context, scope))
                    response = await self._answer(raw, request_type, handler, rpc)
                    seen.answered()
                    return response
                except KoineError as refused:
                    error = refused
                except grpc.aio.AbortError:
                    seen.outcome, seen.status = "client_error", "INVALID_ARGUMENT"
                    raise
                except Exception as fault:  # the process edge: nobody above could answer
                    error = _unforeseen(route, fault)
                seen.refused(error)
            return await refuse(context, error)

        return grpc.unary_unary_rpc_method_handler(serve, response_serializer=_serialized)

    def stream(
        self,
        route: str,
        request_type: type[RequestT],
        handler: Callable[[RequestT, Rpc], Coroutine[Any, Any, Message]],
        scope: str,
        failed: Callable[[RequestT | None, KoineError], Message],
    ) -> Handler:
        """Any number of messages in, an answer for each out, in order.

        `failed` is the answer of a message that was refused: the stream goes on.
        """

        async def one(raw: bytes, context: Context, limit: Spend | None) -> Message:
            asked: list[RequestT] = []

            async def noting(request: RequestT, rpc: Rpc) -> Message:
                asked.append(request)
                return await handler(request, rpc)

            with self._observed(route, context) as seen:
                error: KoineError
                try:
                    rpc = Rpc(context, limit=limit)
                    response = await self._answer(raw, request_type, noting, rpc)
                    seen.answered()
                    return response
                except KoineError as refused:
                    error = refused
                except Exception as fault:  # the process edge: nobody above could answer
                    error = _unforeseen(route, fault)
                seen.refused(error)
                return failed(asked[0] if asked else None, error)

        async def serve(
            requests: AsyncIterator[bytes], context: Context
        ) -> AsyncGenerator[Message]:
            try:
                limit = self._admitted(context, scope)
            except Exception as fault:  # the process edge: nobody above could answer
                error = fault if isinstance(fault, KoineError) else _unforeseen(route, fault)
                with self._observed(route, context) as seen:
                    seen.refused(error)
                await refuse(context, error)
            answer_one = partial(one, context=context, limit=limit)
            answers = overlapping(requests, answer_one, WINDOW, self.stopping)
            try:
                async with contextlib.aclosing(answers):
                    async for answer in answers:
                        yield answer
            except NotReadyError as error:
                await refuse(context, error)

        return grpc.stream_stream_rpc_method_handler(serve, response_serializer=_serialized)

    def probe(
        self,
        request_type: type[RequestT],
        handler: Callable[[RequestT], Coroutine[Any, Any, Message]],
    ) -> Handler:
        """One small message in, one out: open to all and not counted."""

        async def serve(request: RequestT, context: Context) -> Message:
            return await handler(request)

        return grpc.unary_unary_rpc_method_handler(
            serve, request_deserializer=request_type.FromString, response_serializer=_serialized
        )

    def _admitted(self, context: Context, scope: str) -> Spend | None:
        """Raises what the hook raises."""
        if self._authorize is None:
            return None
        return self._authorize(tuple(context.invocation_metadata() or ()), scope)

    async def _answer(
        self,
        raw: bytes,
        request_type: type[RequestT],
        handler: Callable[[RequestT, Rpc], Coroutine[Any, Any, Message]],
        rpc: Rpc,
    ) -> Message:
        with self._core.inflight.account() as account:
            account.hold(len(raw))
            if rpc.limit is not None:
                rpc.limit(requests=1)
            try:
                request = request_type.FromString(raw)
            except DecodeError:
                name = request_type.DESCRIPTOR.full_name
                raise RequestError(
                    f"the message of {len(raw)} bytes is no {name}; send one"
                ) from None
            rpc.read_s = time.perf_counter() - rpc.arrived
            return await handler(request, rpc)

    @contextlib.contextmanager
    def _observed(self, route: str, context: Context) -> Generator[_Seen]:
        """Counts, times, logs and traces one request."""
        start, seen = time.perf_counter(), _Seen()
        request = telemetry.begin("grpc", route[1:], context.invocation_metadata() or ())
        metrics.INFLIGHT.inc()
        self.under_way += 1
        try:
            yield seen
        except asyncio.CancelledError:
            left_s = time_remaining(context)
            if left_s is not None and left_s <= 0:  # gRPC's own timer was first
                metrics.DEADLINES.inc()
                seen.outcome, seen.status = "error", "DEADLINE_EXCEEDED"
            raise
        finally:
            self.under_way -= 1
            metrics.INFLIGHT.dec()
            metrics.REQUESTS.labels(route, seen.outcome).inc()
            metrics.REQUEST_SECONDS.labels(route).observe(time.perf_counter() - start)
            telemetry.finish(request, status=seen.status, outcome=seen.outcome)


def time_remaining(context: Context) -> float | None:
    """Seconds until the client's deadline; None without one."""
    # its annotation leaves out what its docstring says
    return cast("float | None", context.time_remaining())


def _unforeseen(route: str, error: Exception) -> KoineError:
    log.error("an unforeseen error ended a request to %s", route, exc_info=error)
    return KoineError("an unforeseen error; the server's log says more")


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
