"""Places in queues, taken all or none, and work that is left nowhere when one part fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from koine.errors import KoineError
from service.batcher import Batcher
from service.timings import Timings

T = TypeVar("T")


class Places:
    """The places in queues that one item holds."""

    def __init__(self, queues: Sequence[Batcher[Any, Any]] = ()) -> None:
        self.left = list(queues)

    def enqueue(
        self, batcher: Batcher[Any, T], item: object, timings: Timings
    ) -> asyncio.Future[list[T | KoineError]]:
        """The queue's result; a place that was held for it is the queue's from now on."""
        return batcher.enqueue([item], timings, reserved=self.give(batcher))

    def give(self, batcher: Batcher[Any, Any]) -> bool:
        """Leaves the place in this queue to what is about to be queued; False without one."""
        held = batcher in self.left
        if held:
            self.left.remove(batcher)
        return held

    def release(self) -> None:
        """Gives back what was not used."""
        while self.left:
            self.left.pop().release(1)


def reserve(wanted: Sequence[Batcher[Any, Any]], within_s: float) -> None:
    """Takes all places or none. Raises `OverloadedError`."""
    counts = Counter(wanted)
    for batcher, items in counts.items():
        batcher.room(items, within_s)
    for batcher, items in counts.items():
        batcher.hold(items)


async def pieces_of(
    futures: Sequence[asyncio.Future[list[T | KoineError]]],
) -> list[list[T | KoineError]]:
    """The results of each; on a cancellation none is waited for."""
    try:
        return [await future for future in futures]
    finally:
        for future in futures:
            future.cancel()


async def each_of(futures: Sequence[asyncio.Future[list[T | KoineError]]]) -> list[T]:
    """The one result of each; on the first failure or a cancellation none is waited for."""
    results: list[T] = []
    try:
        for future in futures:
            (result,) = await future
            if isinstance(result, KoineError):
                raise result
            results.append(result)
    finally:
        for future in futures:
            future.cancel()
    return results


async def all_of(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Results of all, in order; on the first failure or a cancellation none is left running."""
    if len(work) <= 1:  # needs no task
        return [await part for part in work]
    tasks = [asyncio.create_task(part) for part in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in _failed(done):
            task.result()
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _failed(tasks: set[asyncio.Task[T]]) -> list[asyncio.Task[T]]:
    return [task for task in tasks if not task.cancelled() and task.exception() is not None]
