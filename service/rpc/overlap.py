"""Requests of one stream answered side by side, in order, up to a window; knows no message."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, Final, TypeVar

from koine.errors import NotReadyError

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")
_END: Final = object()


async def overlapping(
    requests: AsyncIterator[RequestT],
    answer: Callable[[RequestT], Coroutine[Any, Any, AnswerT]],
    window: int,
    stopping: asyncio.Event,
) -> AsyncGenerator[AnswerT]:
    """An answer for each request, in order.

    At most `window` requests have been read whose answers have not been taken. When `stopping` is
    set no more are read, those that were are answered, and `NotReadyError` ends the stream. What is
    under way is cancelled when the stream is closed.
    """
    answers: deque[asyncio.Task[AnswerT]] = deque()
    reading: asyncio.Task[RequestT | object] | None = None
    stopped = asyncio.create_task(stopping.wait())
    ended = False
    try:
        while True:
            if reading is None and not ended and not stopped.done() and len(answers) < window:
                reading = asyncio.create_task(_next(requests))
            if stopped.done() and reading is not None and not reading.done():
                reading = await _dropped(reading)
            if reading is None and not answers:
                break
            waiting: set[asyncio.Task[Any]] = {*(() if reading is None else (reading,))}
            waiting |= {answers[0]} if answers else set()
            waiting |= set() if stopped.done() else {stopped}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if reading is not None and reading.done():
                request, reading = reading.result(), None
                if request is _END:
                    ended = True
                else:
                    answers.append(asyncio.create_task(answer(request)))  # pyright: ignore[reportArgumentType]
            while answers and answers[0].done():
                yield answers[0].result()
                answers.popleft()
        if not ended:
            raise NotReadyError("the service is stopping; send the request to another instance")
    finally:
        left: list[asyncio.Task[Any]] = [
            stopped,
            *answers,
            *(() if reading is None else (reading,)),
        ]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _next(requests: AsyncIterator[RequestT]) -> RequestT | object:
    return await anext(requests, _END)


async def _dropped(reading: asyncio.Task[Any]) -> None:
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
