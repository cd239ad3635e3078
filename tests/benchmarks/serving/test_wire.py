"""The generator's HTTP client against servers that behave, and that do not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from benchmarks.serving.clients import HttpClient
from benchmarks.serving.replies import Reply
from benchmarks.serving.server import free_port

Answers = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def replies(answers: Answers, count: int = 1, timeout_s: float = 5.0) -> tuple[list[Reply], int]:
    """What `count` requests one after the other get, and over how many connections."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(4)
                await answers(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def main() -> list[Reply]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = HttpClient(f"http://127.0.0.1:{port}", timeout_s=timeout_s)
        try:
            return [await client.send(b"body") for _ in range(count)]
        finally:
            await client.close()
            server.close()
            await server.wait_closed()

    return asyncio.run(main()), connections


def writes(*parts: bytes, close: bool = False) -> Answers:
    """A server that writes these parts, one after the other."""

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        if close:
            writer.close()

    return answers


def test_connections_are_kept() -> None:
    found, connections = replies(writes(OK), count=3)
    assert [(one.status, one.body, one.fault) for one in found] == [(200, b"hi", None)] * 3
    assert connections == 1


def test_an_answer_in_pieces_is_one_answer() -> None:
    found, _ = replies(writes(*(bytes([byte]) for byte in OK)))
    assert found[0].body == b"hi"


def test_a_refusal_says_when_to_send_again() -> None:
    head = b"HTTP/1.1 429 Too Many\r\nRetry-After: 2\r\nContent-Type: application/problem+json\r\n"
    found, _ = replies(writes(head + b"Content-Length: 2\r\n\r\n{}"))
    assert (found[0].retryable, found[0].told, found[0].retry_after_s) == (True, True, 2.0)
    exact, _ = replies(writes(head + b"Retry-After-Ms: 150\r\nContent-Length: 2\r\n\r\n{}"))
    assert exact[0].retry_after_s == 0.15


def test_an_error_in_another_form_is_not_told() -> None:
    found, _ = replies(writes(b"HTTP/1.1 503 Gone\r\nContent-Length: 0\r\n\r\n"))
    assert (found[0].retryable, found[0].told) == (True, False)


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        (writes(close=True), "reset"),
        (writes(OK[:20], close=True), "cut"),
        (writes(OK[:-1], close=True), "cut"),
        (writes(b"SSH-2.0-OpenSSH\r\n\r\n"), "unreadable"),
        (writes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "unreadable"),
    ],
)
def test_what_breaks_is_named(answers: Answers, fault: str) -> None:
    found, _ = replies(answers)
    assert (found[0].status, found[0].fault, found[0].good) == (0, fault, False)


def test_a_server_that_says_close_is_not_asked_again() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    found, connections = replies(writes(closing), count=2)
    assert [one.body for one in found] == [b"hi", b"hi"]
    assert connections == 2


def test_no_answer_is_a_timeout() -> None:
    found, connections = replies(writes(), count=2, timeout_s=0.1)
    assert [one.fault for one in found] == ["timeout", "timeout"]
    assert connections == 2, "a late answer must not be taken for the next request's"


def test_nobody_listening_is_refused() -> None:
    async def ask() -> Reply:
        return await HttpClient(f"http://127.0.0.1:{free_port()}").send(b"x")

    assert asyncio.run(ask()).fault == "refused"
