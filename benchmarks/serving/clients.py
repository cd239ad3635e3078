"""What a load generator sends through: one small interface, HTTP and gRPC behind it.

Bodies are made before a measurement and answers are read after it, so that `send` only moves
bytes. The HTTP client is written by hand on asyncio's transports: general clients cost as much
processor time per request as the server itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import urlsplit

import grpc
import grpc.aio

from benchmarks.serving.replies import Reply
from benchmarks.serving.wire import Connection, head

TIMEOUT_S = 60.0
ENCODE = "/koine.v1.ConceptService/Encode"
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.UNAVAILABLE: 503,
}


class Client(Protocol):
    """Sends prepared bodies to one server."""

    async def send(self, body: bytes) -> Reply:
        """The reply; what goes wrong on the way is a reply too. Never raises."""
        ...

    async def close(self) -> None:
        """Closes every connection."""
        ...


class HttpClient:
    """`POST` of JSON over kept-alive connections, as many as are in use at once."""

    def __init__(self, url: str, path: str = "/v1/encode", timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._head = head("POST", path, parts.netloc, "application/json")
        self._timeout_s = timeout_s
        self._idle: list[Connection] = []

    async def send(self, body: bytes) -> Reply:
        """The reply; a connection that broke is not used again."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._send(self._head + b"%d\r\n\r\n" % len(body) + body)
        except TimeoutError:
            return Reply(0, b"", fault="timeout")

    async def _send(self, message: bytes) -> Reply:
        connection = self._open()
        if connection is None:
            try:
                connection = await Connection.to(*self._address)
            except OSError:
                return Reply(0, b"", fault="refused")
        try:
            reply = await connection.ask(message)
        except asyncio.CancelledError:
            connection.close()
            raise
        if connection.usable:
            self._idle.append(connection)
        return reply

    def _open(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def close(self) -> None:
        """Closes every idle connection."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()


class GrpcClient:
    """`koine.v1.ConceptService/Encode` with serialized requests, over one channel."""

    def __init__(self, target: str, timeout_s: float = TIMEOUT_S) -> None:
        self._channel = grpc.aio.insecure_channel(
            target, options=[("grpc.max_receive_message_length", -1)]
        )
        self._call: Callable[..., Awaitable[bytes]] = self._channel.unary_unary(ENCODE)
        self._timeout_s = timeout_s

    async def send(self, body: bytes) -> Reply:
        """The reply, its status as HTTP would have it."""
        try:
            return Reply(200, await self._call(body, timeout=self._timeout_s))
        except grpc.aio.AioRpcError as error:
            status = _STATUS.get(error.code(), 500)
            trailers = dict(error.trailing_metadata() or ())
            after_s = _seconds(trailers.get("retry-after"))
            told = (error.details() or "").encode()
            return Reply(status, told, retry_after_s=after_s, problem=True)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()


def _seconds(value: str | bytes | None) -> float | None:
    return float(value) if value is not None else None
