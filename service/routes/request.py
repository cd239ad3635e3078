"""A request on its way: to the core, read, spent, answered, and timed; knows no endpoint."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from koine.errors import NotReadyError, RequestError
from service import metrics, telemetry
from service.body import read_body, unless_gone
from service.core import Account, Core
from service.timings import Timings

T = TypeVar("T")
TIMEOUT_HEADER = "koine-timeout-ms"
INLINE_BYTES = 64 * 1024
"""Bodies up to this size are read in the event loop; a hop to a thread would cost more."""
INLINE_ITEMS = 4
"""Answers of up to so many items are written in the event loop, for the same reason."""


def core_of(request: Request) -> Core:
    """The core that every transport of this process shares."""
    return cast("Core", request.app.state.core)


def check_alive(request: Request) -> None:
    """Raises `NotReadyError` where the process should be restarted."""
    if not core_of(request).alive:
        raise NotReadyError("a batching loop has stopped; restart the process")


def check_json(request: Request) -> None:
    """Raises 415 for a body that does not say it is JSON."""
    media_type = media_type_of(request)
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise HTTPException(415, f"got Content-Type {media_type!r}; send application/json")


def media_type_of(request: Request) -> str:
    """What the body is, without parameters; JSON where the client does not say."""
    content_type = request.headers.get("content-type", "application/json")
    return content_type.split(";")[0].strip().lower()


def timeout_of(request: Request) -> float | None:
    """What the client will wait, in its `Koine-Timeout-Ms`. Raises `RequestError`."""
    given = request.headers.get(TIMEOUT_HEADER)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and 0 < len(given) < 10 and int(given)):
        raise RequestError(f"`{TIMEOUT_HEADER}` must be whole milliseconds from 1, got {given!r}")
    return int(given) / 1000


class Exchange:
    """One request for codes, from its first byte to its answer."""

    def __init__(self, request: Request) -> None:
        """Raises `RequestError` for a timeout that cannot be read."""
        self.request, self.core = request, core_of(request)
        self.timeout_s = timeout_of(request)
        self._arrived = time.perf_counter()
        self._read_s = 0.0

    async def read(self, account: Account, read: Callable[[bytes], T]) -> T:
        """What `read` makes of the body, whose bytes `account` holds."""
        body = await read_body(self.request, self.core.settings.max_body_bytes, account)
        start = time.perf_counter()
        asked = await run(len(body) > INLINE_BYTES, read, body)
        end = time.perf_counter()
        metrics.STAGE_SECONDS.labels("read").observe(end - start)
        telemetry.stage("read", start, end)
        self._read_s = end - start
        return asked

    def spend(self, items: int) -> None:
        """Takes items from what the request's key may send. Raises `RateLimitError`."""
        self.request.app.state.access.spend(self.request.state.key, items)

    async def unless_gone(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which ends with its client. Raises `ClientDisconnect`."""
        return await unless_gone(self.request, work)

    async def answer(
        self, timings: Timings, in_thread: bool, write: Callable[[], bytes | Written]
    ) -> Response:
        """The answer that `write` makes, and where the request's time went."""
        start = time.perf_counter()
        written = await run(in_thread, write)
        end = time.perf_counter()
        metrics.STAGE_SECONDS.labels("answer").observe(end - start)
        telemetry.stage("answer", start, end)
        timings.read, timings.total = self._read_s, end - self._arrived
        content, media_type, headers = (
            written if isinstance(written, tuple) else (written, "application/json", {})
        )
        headers = {"Server-Timing": timings.header(), **headers}
        return Response(content, media_type=media_type, headers=headers)


Written = tuple[bytes, str, dict[str, str]]
"""An answer that is not only JSON: its body, media type and headers."""


async def run(in_thread: bool, call: Callable[..., T], *args: object) -> T:
    """The result of `call`, in a thread where it takes long enough to be worth it."""
    return await asyncio.to_thread(call, *args) if in_thread else call(*args)


def json_bytes(answer: object) -> bytes:
    """The JSON of an answer. Raises `ValueError` for NaN, which JSON does not have."""
    return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
