"""One bounded queue in front of one graph: items of all clients, batched; knows no HTTP.

A batch closes when the session is free: under load nothing waits for company, an idle session
waits a few milliseconds at most for items that are still being decoded. The forward pass runs in
a thread of its own. When it raises, the batch is halved until only the items at fault are left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from koine.errors import KoineError, NotReadyError, OverloadedError
from service.metrics import BATCH_ITEMS, DROPPED, LAST_BATCH, QUEUE_ITEMS, STAGE_SECONDS

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

HEARTBEAT_S = 1.0
STUCK_AFTER_S = 300.0
"""A forward pass longer than this counts as hung, and the process as dead."""

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Entry(Generic[ItemT, ResultT]):
    item: ItemT
    future: asyncio.Future[ResultT]
    queued: float = field(default_factory=time.perf_counter)


class Batcher(Generic[ItemT, ResultT]):
    """Collects single items into batches for `forward`, which returns a result for each.

    An item needs a place: `reserve` before any work is done for it, then `submit` or `release`.
    """

    def __init__(
        self,
        name: str,
        forward: Callable[[list[ItemT]], Iterable[ResultT]],
        *,
        max_batch: int,
        max_queue: int,
        wait_s: float,
    ) -> None:
        self.name = name
        self._forward = forward
        self._max_batch, self._max_queue, self._wait_s = max_batch, max_queue, wait_s
        self._queue: deque[_Entry[ItemT, ResultT]] = deque()
        self._held = 0
        self._seconds_per_item = 0.01
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"forward-{name}")
        self._running = False
        self._closing = False
        self._beat = time.monotonic()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the loop in the running event loop."""
        self._beat = time.monotonic()
        self._loop = asyncio.create_task(self._run(), name=f"batcher-{self.name}")

    @property
    def alive(self) -> bool:
        """Whether the loop runs and no forward pass hangs."""
        return (
            self._loop is not None
            and not self._loop.done()
            and time.monotonic() - self._beat < STUCK_AFTER_S
        )

    def room(self, items: int) -> None:
        """Raises `OverloadedError` unless `items` more places are free."""
        if self._closing:
            raise NotReadyError("the service is stopping; send the request to another instance")
        if self._held + items > self._max_queue:
            raise OverloadedError(
                f"the queue `{self.name}` holds {self._held} of at most {self._max_queue} items "
                f"and has no room for {items} more; send the request again later",
                self._held * self._seconds_per_item,
            )

    def reserve(self, items: int) -> None:
        """Takes places, all or none. Raises `OverloadedError`."""
        self.room(items)
        self._hold(items)

    def release(self, items: int) -> None:
        """Gives back places that were reserved and never submitted."""
        self._hold(-items)
        self._changed.set()

    async def submit(self, item: ItemT, *, reserved: bool = True) -> ResultT:
        """The item's result; raises what is wrong with this very item.

        `reserved=False`: for items that another queue has let in already, past the limit.
        """
        if not reserved:
            self._hold(1)
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._queue.append(_Entry(item, future))
        self._changed.set()
        return await future

    async def close(self, within_s: float = 30.0) -> None:
        """Refuses new items, finishes those that were admitted, then ends the loop."""
        self._closing = True
        deadline = time.monotonic() + within_s
        while (self._held or self._running) and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        self._thread.shutdown(wait=not self._running)

    def _hold(self, items: int) -> None:
        self._held += items
        assert self._held >= 0
        QUEUE_ITEMS.labels(self.name).set(self._held)

    async def _run(self) -> None:
        while True:
            self._beat = time.monotonic()
            if not self._queue:
                await self._change(HEARTBEAT_S)
                if not self._queue:
                    continue
                await self._gather_company()
            batch = self._take()
            if batch:
                await self._answer(batch)

    async def _change(self, timeout_s: float) -> None:
        self._changed.clear()
        # not `wait_for`: in Python 3.11 it can swallow the cancellation that ends the loop
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    async def _gather_company(self) -> None:
        """Waits, while the session idles, for items that are admitted and still being decoded."""
        await asyncio.sleep(0)  # siblings that are ready in this very turn of the event loop
        deadline = time.monotonic() + self._wait_s
        while len(self._queue) < min(self._held, self._max_batch):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return
            await self._change(left_s)

    def _take(self) -> list[_Entry[ItemT, ResultT]]:
        batch: list[_Entry[ItemT, ResultT]] = []
        taken = 0
        while self._queue and len(batch) < self._max_batch:
            entry = self._queue.popleft()
            taken += 1
            if entry.future.done():  # its client left
                DROPPED.inc()
            else:
                batch.append(entry)
        self._running = bool(batch)
        self._hold(-taken)
        return batch

    async def _answer(self, batch: list[_Entry[ItemT, ResultT]]) -> None:
        start = time.perf_counter()
        for entry in batch:
            STAGE_SECONDS.labels("queue").observe(start - entry.queued)
        BATCH_ITEMS.labels(self.name).observe(len(batch))
        loop = asyncio.get_running_loop()
        results = await loop.run_in_executor(self._thread, self._forward_all, batch)
        seconds = time.perf_counter() - start
        STAGE_SECONDS.labels("forward").observe(seconds)
        LAST_BATCH.labels(self.name).set_to_current_time()
        self._seconds_per_item += 0.2 * (seconds / len(batch) - self._seconds_per_item)
        self._running = False
        for entry, result in zip(batch, results, strict=True):
            if entry.future.done():
                continue
            if isinstance(result, KoineError):
                entry.future.set_exception(result)
            else:
                entry.future.set_result(result)

    def _forward_all(self, batch: list[_Entry[ItemT, ResultT]]) -> list[ResultT | KoineError]:
        """Results in order, an error in the place of each item at fault. Never raises."""
        try:
            results: list[ResultT | KoineError] = list(
                self._forward([entry.item for entry in batch])
            )
            assert len(results) == len(batch)
            return results
        except Exception as error:  # the edge of the forward thread: the loop must survive
            if len(batch) > 1:
                half = len(batch) // 2
                return self._forward_all(batch[:half]) + self._forward_all(batch[half:])
            if isinstance(error, KoineError):
                return [error]
            log.exception("the forward pass of `%s` failed for one item", self.name)
            return [KoineError("encoding this item failed; the server's log says why")]
