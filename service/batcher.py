"""One bounded queue in front of one graph: items of all clients, batched; knows no HTTP.

A batch closes when the session is free, and waits no fixed time: a few milliseconds at most where
few items are being decoded, a small share of their time where many are. The forward pass runs in a
thread of its own. When it raises, the batch is halved until only the items at fault are left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from koine.errors import KoineError, NotReadyError, OverloadedError
from service import telemetry
from service.metrics import BATCH_ITEMS, DROPPED, LAST_BATCH, QUEUE_ITEMS, STAGE_SECONDS
from service.telemetry import RequestContext
from service.timings import Timings

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

HEARTBEAT_S = 1.0
STUCK_AFTER_S = 300.0
"""A forward pass longer than this counts as hung, and the process as dead."""
_LONGEST_WAIT_S = 0.05
_LONGEST_PASS_S, _LEAST_BATCH = 0.5, 4
"""A batch that takes longer than this saves nothing any more, and all wait for the whole of it."""
_LONGEST_PROMISE_S = 5.0

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Chunk(Generic[ItemT, ResultT]):
    """Items of one request that wait for one future; batches take any part of it, in order."""

    items: Sequence[ItemT]
    future: asyncio.Future[list[ResultT | KoineError]]
    timings: Timings
    request: RequestContext | None = field(default_factory=telemetry.current)
    queued: float = field(default_factory=time.perf_counter)
    taken: int = 0
    results: list[ResultT | KoineError] = field(default_factory=list["ResultT | KoineError"])


class _Part(NamedTuple, Generic[ItemT, ResultT]):
    """What one batch takes of a chunk."""

    chunk: _Chunk[ItemT, ResultT]
    items: Sequence[ItemT]


class _Metrics:
    """A queue's own series, looked up once."""

    def __init__(self, name: str) -> None:
        self.queued, self.last_batch = QUEUE_ITEMS.labels(name), LAST_BATCH.labels(name)
        self.batch_items = BATCH_ITEMS.labels(name)
        self.queue_seconds = STAGE_SECONDS.labels("queue")
        self.forward_seconds = STAGE_SECONDS.labels("forward")


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
        max_wait_s: float = math.inf,
    ) -> None:
        """`wait_s`: how long an idle session waits for company; `max_wait_s`: how long what is
        admitted may have to wait for what came before it, by the queue's own estimate."""
        self.name = name
        self._forward = forward
        self._max_batch, self._max_queue, self._wait_s = max_batch, max_queue, wait_s
        self._max_wait_s = max_wait_s
        self._queue: deque[_Chunk[ItemT, ResultT]] = deque()
        self._waiting = 0
        self._held = 0
        self._busy_since = time.perf_counter()
        self._seconds_per_item = 0.01
        self._pass_s_per_item = 0.0
        self._promised = 0.0
        self._metrics = _Metrics(name)
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

    def has_room(self, items: int) -> bool:
        """Whether `room` would let in so many."""
        fits = self._held + items <= self._max_queue
        return not self._closing and fits and not self._too_late(math.inf)

    def room(self, items: int, within_s: float = math.inf) -> None:
        """Raises `OverloadedError` unless `items` more places are free and soon to be served."""
        if self._closing:
            raise NotReadyError("the service is stopping; send the request to another instance")
        wait_s = self._wait_s_of_held
        if self._held + items > self._max_queue:
            raise OverloadedError(
                f"the queue `{self.name}` holds {self._held} of at most {self._max_queue} items "
                f"and has no room for {items} more; send the request again later",
                self._promise(items, wait_s / 2),
            )
        if self._too_late(within_s):
            most_s = min(within_s, self._max_wait_s)
            raise OverloadedError(
                f"the queue `{self.name}` holds {self._held} items, which take about "
                f"{wait_s:.2g} s, and a request may wait {most_s:.2g} s; send it again later",
                self._promise(items, wait_s - most_s / 2),
            )

    @property
    def _wait_s_of_held(self) -> float:
        return self._held * self._seconds_per_item

    def _too_late(self, within_s: float) -> bool:
        return bool(self._held) and self._wait_s_of_held > min(within_s, self._max_wait_s)

    def _promise(self, items: int, soonest_s: float) -> float:
        """Seconds until there is room for a request that is refused now.

        Requests that were refused before it have been told a time of their own each: all at once
        they would be refused again. Those that never return cost the others at most
        `_LONGEST_PROMISE_S`.
        """
        now = time.perf_counter()
        at = min(max(now + soonest_s, self._promised), now + max(soonest_s, _LONGEST_PROMISE_S))
        self._promised = at + items * self._seconds_per_item
        return at - now

    def hold(self, items: int) -> None:
        """Takes places, whether there is room or not."""
        if not self._held:
            self._busy_since = time.perf_counter()
        self._held += items
        assert self._held >= 0
        self._metrics.queued.inc(items)

    def release(self, items: int) -> None:
        """Gives back places that were held and never used."""
        self.hold(-items)
        self._changed.set()

    def enqueue(
        self, items: Sequence[ItemT], timings: Timings | None = None, *, reserved: bool = True
    ) -> asyncio.Future[list[ResultT | KoineError]]:
        """Soon a result for each item in order, or what is wrong with it; cancel it to give up.

        Large batches of a client are split, small ones merged. Adds to `timings`.
        `reserved=False`: for items that another queue has let in already, past the limit.
        """
        if not reserved:
            self.hold(len(items))
        future: asyncio.Future[list[ResultT | KoineError]]
        future = asyncio.get_running_loop().create_future()
        self._queue.append(_Chunk(items, future, timings or Timings()))
        self._waiting += len(items)
        self._changed.set()
        return future

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
        """Waits, while the session idles, for items that are admitted and still being decoded.

        The more are, the longer: an eighth of the time that they will take together anyhow. The
        decoders use the cores meanwhile, and larger batches cost less for each item.
        """
        await asyncio.sleep(0)  # siblings that are ready in this very turn of the event loop
        start = time.perf_counter()
        while self._waiting < min(self._held, self._most_at_once):
            most_s = max(self._wait_s, min(_LONGEST_WAIT_S, self._wait_share_s))
            left_s = start + most_s - time.perf_counter()
            if left_s <= 0 or not self._wait_s:
                return
            await self._change(left_s)

    @property
    def _most_at_once(self) -> int:
        if not self._pass_s_per_item:
            return self._max_batch
        in_time = max(_LEAST_BATCH, int(_LONGEST_PASS_S / self._pass_s_per_item))
        return min(self._max_batch, in_time)

    @property
    def _wait_share_s(self) -> float:
        return self._held * self._seconds_per_item / 8

    def _take(self) -> list[_Part[ItemT, ResultT]]:
        batch: list[_Part[ItemT, ResultT]] = []
        most = self._most_at_once
        room, left = most, 0
        while self._queue and room:
            chunk = self._queue[0]
            waiting = len(chunk.items) - chunk.taken
            if chunk.future.done():  # its client left, or its time is up
                DROPPED.inc(waiting)
                left += waiting
                self._queue.popleft()
                continue
            count = min(room, waiting)
            batch.append(_Part(chunk, chunk.items[chunk.taken : chunk.taken + count]))
            chunk.taken += count
            room -= count
            if count == waiting:
                self._queue.popleft()
        taken = most - room + left
        self._running = bool(batch)
        self._waiting -= taken
        self.hold(-taken)
        return batch

    async def _answer(self, batch: list[_Part[ItemT, ResultT]]) -> None:
        start = time.perf_counter()
        for part in batch:
            waited_s = start - part.chunk.queued
            self._metrics.queue_seconds.observe(waited_s)
            part.chunk.timings.queue += waited_s
        items = [item for part in batch for item in part.items]
        self._metrics.batch_items.observe(len(items))
        loop = asyncio.get_running_loop()
        results = await loop.run_in_executor(self._thread, self._forward_all, items)
        end = time.perf_counter()
        self._metrics.forward_seconds.observe(end - start)
        self._metrics.last_batch.set_to_current_time()
        last_s, pass_s = self._pass_s_per_item, (end - start) / len(items)
        self._pass_s_per_item = last_s + 0.2 * (pass_s - last_s) if last_s else pass_s
        waited = [(part.chunk.request, part.chunk.queued) for part in batch]
        telemetry.forward_pass(self.name, len(items), waited, start, end)
        # not the forward pass alone: where decoding is slower, that is what a place costs
        seconds = (end - min(start, self._busy_since)) / len(items)
        self._seconds_per_item += 0.2 * (seconds - self._seconds_per_item)
        self._busy_since = end
        self._running = False
        first = 0
        for chunk, part_items in batch:
            chunk.results += results[first : first + len(part_items)]
            first += len(part_items)
            chunk.timings.forward += end - start
            chunk.queued = end  # what is left of it waits again
            if len(chunk.results) == len(chunk.items) and not chunk.future.done():
                chunk.future.set_result(chunk.results)

    def _forward_all(self, items: list[ItemT]) -> list[ResultT | KoineError]:
        """Results in order, an error in the place of each item at fault. Never raises."""
        try:
            results: list[ResultT | KoineError] = list(self._forward(items))
            assert len(results) == len(items)
            return results
        except Exception as error:  # the edge of the forward thread: the loop must survive
            if len(items) > 1:
                half = len(items) // 2
                return self._forward_all(items[:half]) + self._forward_all(items[half:])
            if isinstance(error, KoineError):
                return [error]
            log.exception("the forward pass of `%s` failed for one item", self.name)
            return [KoineError("encoding this item failed; the server's log says why")]
