"""HTTP/1.1 on one kept-alive connection, only what a load generator needs; knows no JSON."""

from __future__ import annotations

import asyncio
from typing import cast

from benchmarks.serving.replies import Reply

_END = b"\r\n\r\n"


def head(method: str, path: str, host: str, content_type: str) -> bytes:
    """A request's head up to the value of Content-Length."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\n"
        "Content-Length: "
    ).encode()


class Connection(asyncio.Protocol):
    """One request at a time; a broken connection answers with a fault."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Reply] | None = None
        self._got = bytearray()
        self._head: _Head | None = None

    @classmethod
    async def to(cls, host: str, port: int) -> Connection:
        """A new connection. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(cls, host, port)
        return made

    @property
    def usable(self) -> bool:
        """Whether another request may go this way."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, message: bytes) -> Reply:
        """The reply to a whole request."""
        assert self._waiting is None
        if self._transport is None or self._transport.is_closing():
            return Reply(0, b"", fault="reset")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        return await self._waiting

    def close(self) -> None:
        """Closes the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._got += data
        if self._head is None:
            end = self._got.find(_END)
            if end < 0:
                return
            self._head = _parsed(bytes(self._got[:end]))
            del self._got[: end + len(_END)]
            if self._head is None:
                self._answer(Reply(0, bytes(self._got), fault="unreadable"))
                self.close()
                return
        if self._head.status == 100:
            self._head = None
        elif len(self._got) >= self._head.length:
            self._finish(self._head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._transport = None
        begun = self._head is not None or bool(self._got)
        self._answer(Reply(0, b"", fault="cut" if begun else "reset"))

    def _finish(self, found: _Head) -> None:
        body = bytes(self._got[: found.length])
        del self._got[: found.length]
        self._head = None
        if found.closes or self._got:
            self.close()
        self._answer(Reply(found.status, body, found.retry_after_s, found.problem))

    def _answer(self, reply: Reply) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)


class _Head:
    __slots__ = ("closes", "length", "problem", "retry_after_s", "status")

    def __init__(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        self.length = int(headers.get(b"content-length", b"0"))
        self.closes = headers.get(b"connection", b"").lower() == b"close"
        self.problem = headers.get(b"content-type", b"").startswith(b"application/problem+json")
        exact_ms = headers.get(b"retry-after-ms")
        seconds = headers.get(b"retry-after")
        self.retry_after_s: float | None = float(seconds) if seconds else None
        if exact_ms:
            self.retry_after_s = float(exact_ms) / 1000


def _parsed(text: bytes) -> _Head | None:
    """None for what is no HTTP, or comes in chunks, which no server measured here sends."""
    lines = text.split(b"\r\n")
    words = lines[0].split(b" ")
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        return None
    pairs = (line.partition(b":") for line in lines[1:])
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return None if b"transfer-encoding" in headers else _Head(int(words[1]), headers)
