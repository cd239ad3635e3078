"""Headers on top of an answer's own, for middleware; knows none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.types import Message, Send

Header = tuple[bytes, bytes]


def adding(headers: Callable[[list[Header]], Iterable[Header]], send: Send) -> Send:
    """`send`, with what `headers` makes of the answer's own when it begins."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message.get("headers", ()))
            message["headers"] = [*own, *headers(own)]
        await send(message)

    return sent
