"""A request's body, bounded, and what happens when its client leaves; knows no endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from koine.errors import RequestError, TooLargeError
from service.core import Account

T = TypeVar("T")


async def read_body(request: Request, max_bytes: int, account: Account) -> bytes:
    """The whole body, its bytes held by `account`.

    Raises `TooLargeError` before reading more than `max_bytes`, `OverloadedError` before reading
    more than fits beside the other requests.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit():
        if int(declared) > max_bytes:
            raise _too_large(f"{declared} bytes", max_bytes)
        account.hold(int(declared))
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large("more", max_bytes)
        account.hold(size)
        chunks.append(chunk)
    if not size:
        raise RequestError("the body is empty; send JSON, a form or an image file")
    return b"".join(chunks)


def _too_large(got: str, max_bytes: int) -> TooLargeError:
    return TooLargeError(f"the body has {got}, the limit is {max_bytes} bytes; split the request")


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client closes the connection.

    Raises `ClientDisconnect` then. The body must have been read.
    """
    here = asyncio.current_task()
    assert here is not None
    left = False

    def stop(watch: asyncio.Task[None]) -> None:
        nonlocal left
        if not watch.cancelled():
            left = True
            here.cancel()

    watch = asyncio.create_task(_gone(request))
    watch.add_done_callback(stop)
    try:
        return await work
    except asyncio.CancelledError:
        if left and here.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watch.remove_done_callback(stop)
        watch.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
