"""The bounded queue: merging, isolation, back-pressure, cancellation, shutdown, heartbeat."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from koine.errors import ActivationsError, KoineError, NotReadyError, OverloadedError
from service import batcher as batcher_module
from service.batcher import Batcher
from service.metrics import DROPPED
from service.timings import Timings

Body = Callable[[Batcher[int, int]], Awaitable[None]]


class Doubling:
    """A forward pass that doubles, notes its batches and can be held up or poisoned."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        assert self.go.wait(10)
        self.batches.append(list(items))
        if -1 in items:
            raise ActivationsError("-1 cannot be doubled")
        if -2 in items:
            raise ZeroDivisionError
        return [2 * item for item in items]


def run(
    forward: Doubling, body: Body, *, max_batch: int = 4, max_queue: int = 8, wait_s: float = 0.05
) -> None:
    """Runs `body` against a started batcher and closes it."""

    async def main() -> None:
        batcher: Batcher[int, int] = Batcher(
            "tested", forward, max_batch=max_batch, max_queue=max_queue, wait_s=wait_s
        )
        batcher.start()
        try:
            await body(batcher)
        finally:
            forward.go.set()
            await batcher.close()

    asyncio.run(main())


def reserve(batcher: Batcher[int, int], items: int) -> None:
    """Takes places as a request does."""
    batcher.room(items)
    batcher.hold(items)


async def submit(batcher: Batcher[int, int], item: int) -> int:
    """The result of an item whose place is held."""
    (result,) = await batcher.enqueue([item])
    if isinstance(result, KoineError):
        raise result
    return result


async def send(batcher: Batcher[int, int], *items: int) -> list[int | BaseException]:
    """Reserves and submits each item as a client of its own would."""
    reserve(batcher, len(items))
    work = [asyncio.create_task(submit(batcher, item)) for item in items]
    return await asyncio.gather(*work, return_exceptions=True)


def test_items_of_different_clients_share_a_batch() -> None:
    forward = Doubling()

    async def body(batcher: Batcher[int, int]) -> None:
        forward.go.clear()
        first = asyncio.create_task(send(batcher, 1))
        await asyncio.sleep(0.1)  # it runs alone; these wait for it
        others = [asyncio.create_task(send(batcher, n)) for n in (2, 3, 4, 5, 6)]
        await asyncio.sleep(0.05)
        forward.go.set()
        assert [await task for task in (first, *others)] == [[2], [4], [6], [8], [10], [12]]

    run(forward, body)
    assert forward.batches == [[1], [2, 3, 4, 5], [6]]


def test_an_idle_session_waits_for_admitted_items_but_not_long() -> None:
    forward = Doubling()

    async def body(batcher: Batcher[int, int]) -> None:
        reserve(batcher, 3)
        first = asyncio.create_task(submit(batcher, 1))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(submit(batcher, 2))
        assert await asyncio.gather(first, second) == [2, 4]
        batcher.release(1)
        start = time.perf_counter()
        assert await send(batcher, 5) == [10]
        assert time.perf_counter() - start < 0.2  # nobody else was admitted: no wait of 0.3 s

    run(forward, body, wait_s=0.3)
    assert forward.batches == [[1, 2], [5]]


def test_a_poisoned_item_fails_alone() -> None:
    forward = Doubling()

    async def body(batcher: Batcher[int, int]) -> None:
        results = await send(batcher, 1, -1, 3, 4)
        assert [results[0], *results[2:]] == [2, 6, 8]
        assert isinstance(results[1], ActivationsError)
        assert await send(batcher, 7) == [14]
        assert batcher.alive

    run(forward, body)


def test_an_unforeseen_error_fails_its_item_alone_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    forward = Doubling()

    async def body(batcher: Batcher[int, int]) -> None:
        results = await send(batcher, 1, 2, -2)
        assert results[:2] == [2, 4]
        assert type(results[2]) is KoineError
        assert "ZeroDivisionError" not in str(results[2])
        assert await send(batcher, 7) == [14]

    run(forward, body)
    assert "ZeroDivisionError" in caplog.text


def test_a_full_queue_refuses_and_says_when_to_return() -> None:
    forward = Doubling()

    async def body(batcher: Batcher[int, int]) -> None:
        forward.go.clear()
        running = asyncio.create_task(send(batcher, 1, 2, 3, 4))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(send(batcher, *range(5, 12)))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="7 of at most 8 items.* no room for 2") as caught:
            reserve(batcher, 2)
        assert caught.value.retry_after_s > 0
        reserve(batcher, 1)
        batcher.release(1)
        forward.go.set()
        assert await running == [2, 4, 6, 8]
        assert await waiting == [2 * n for n in range(5, 12)]
        reserve(batcher, 8)
        batcher.release(8)

    run(forward, body)


def test_items_of_clients_that_left_are_not_computed() -> None:
    forward = Doubling()

    async def body(batcher: Batcher[int, int]) -> None:
        forward.go.clear()
        running = asyncio.create_task(send(batcher, 1))
        await asyncio.sleep(0.1)
        gone, stays = (asyncio.create_task(send(batcher, n)) for n in (2, 3))
        await asyncio.sleep(0.02)
        gone.cancel()
        await asyncio.sleep(0.02)
        forward.go.set()
        assert [await running, await stays] == [[2], [6]]
        reserve(batcher, 8)  # every place is free again
        batcher.release(8)

    run(forward, body)
    assert forward.batches == [[1], [3]]


def test_closing_finishes_what_was_admitted_and_takes_no_more() -> None:
    forward = Doubling()

    async def body(batcher: Batcher[int, int]) -> None:
        forward.go.clear()
        work = asyncio.create_task(send(batcher, *range(6)))
        await asyncio.sleep(0.1)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.01)
        with pytest.raises(NotReadyError, match="stopping"):
            reserve(batcher, 1)
        assert not closing.done()
        forward.go.set()
        assert await work == [0, 2, 4, 6, 8, 10]
        await closing
        assert not batcher.alive

    run(forward, body)


def test_a_hung_forward_pass_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "STUCK_AFTER_S", 0.2)
    monkeypatch.setattr(batcher_module, "HEARTBEAT_S", 0.05)
    forward = Doubling()

    async def body(batcher: Batcher[int, int]) -> None:
        await asyncio.sleep(0.4)
        assert batcher.alive  # idle is not hung
        forward.go.clear()
        work = asyncio.create_task(send(batcher, 1))
        await asyncio.sleep(0.4)
        assert not batcher.alive
        forward.go.set()
        await work
        await asyncio.sleep(0.05)
        assert batcher.alive

    run(forward, body)


def test_large_chunks_are_split_and_small_ones_merged() -> None:
    forward = Doubling()

    async def body(batcher: Batcher[int, int]) -> None:
        forward.go.clear()
        first = asyncio.create_task(send(batcher, 100))
        await asyncio.sleep(0.1)
        reserve(batcher, 7)
        timings = Timings()
        work = [batcher.enqueue(range(5), timings), batcher.enqueue([5, 6])]
        await asyncio.sleep(0.02)
        forward.go.set()
        assert await asyncio.gather(first, *work) == [[200], [0, 2, 4, 6, 8], [10, 12]]
        assert timings.queue > 0
        assert timings.forward > 0

    run(forward, body)
    assert forward.batches == [[100], [0, 1, 2, 3], [4, 5, 6]]


def test_what_is_left_of_a_chunk_whose_client_left_is_dropped() -> None:
    forward = Doubling()

    async def body(batcher: Batcher[int, int]) -> None:
        forward.go.clear()
        before = DROPPED._value.get()
        reserve(batcher, 8)
        gone = batcher.enqueue(range(6))
        stays = batcher.enqueue([6, 7])
        await asyncio.sleep(0.1)  # four of the first six are under way
        gone.cancel()
        await asyncio.sleep(0.02)
        forward.go.set()
        assert await stays == [12, 14]
        assert DROPPED._value.get() - before == 2
        reserve(batcher, 8)
        batcher.release(8)

    run(forward, body)
    assert forward.batches == [[0, 1, 2, 3], [6, 7]]


def test_errors_of_a_chunk_stand_in_their_places() -> None:
    async def body(batcher: Batcher[int, int]) -> None:
        reserve(batcher, 6)
        results = await batcher.enqueue([0, -1, 2, 3, -2, 5])
        assert [results[n] for n in (0, 2, 3, 5)] == [0, 4, 6, 10]
        assert isinstance(results[1], ActivationsError)
        assert type(results[4]) is KoineError

    run(Doubling(), body)


def test_a_wait_that_is_too_long_is_refused_by_the_queues_own_estimate() -> None:
    forward = Doubling()

    async def body(batcher: Batcher[int, int]) -> None:
        batcher._seconds_per_item = 10.0
        batcher.room(8, within_s=0.1)  # nothing is before them
        reserve(batcher, 1)
        batcher.room(7)
        with pytest.raises(OverloadedError, match=r"about 10 s, and a request may wait 1 s") as e:
            batcher.room(1, within_s=1.0)
        assert 9 < e.value.retry_after_s <= 10
        batcher.release(1)

    run(forward, body)


def test_each_refused_request_is_promised_a_time_of_its_own() -> None:
    async def body(batcher: Batcher[int, int]) -> None:
        batcher._seconds_per_item = 0.5
        reserve(batcher, 8)
        asked: list[float] = []
        for items in (1, 2, 1, 8, 1):
            with pytest.raises(OverloadedError) as refused:
                batcher.room(items)
            asked.append(refused.value.retry_after_s)
        # half of what is held, and then what was promised before
        expected = [2.0, 2.5, 3.5, 4.0, batcher_module._LONGEST_PROMISE_S]
        assert asked == pytest.approx(expected, abs=0.1)
        assert not batcher.has_room(1)
        batcher.release(8)
        assert batcher.has_room(8)
        assert not batcher.has_room(9)

    run(Doubling(), body)


def test_a_promise_of_the_past_delays_nobody() -> None:
    async def body(batcher: Batcher[int, int]) -> None:
        batcher._seconds_per_item = 0.01
        reserve(batcher, 8)
        for _ in range(10):
            with pytest.raises(OverloadedError):
                batcher.room(1)
        await asyncio.sleep(0.2)
        with pytest.raises(OverloadedError) as refused:
            batcher.room(1)
        assert refused.value.retry_after_s == pytest.approx(0.04, abs=0.005)
        batcher.release(8)

    run(Doubling(), body)


def test_a_slow_pass_takes_no_more_than_half_a_second_of_items() -> None:
    forward = Doubling()

    async def body(batcher: Batcher[int, int]) -> None:
        for pass_s, most in ((0.0, 32), (0.01, 32), (0.05, 10), (0.1, 5), (3.0, 4)):
            batcher._pass_s_per_item = pass_s
            reserve(batcher, 40)
            await batcher.enqueue(list(range(40)))
            assert len(forward.batches[0]) == most
            forward.batches.clear()

    run(forward, body, max_batch=32, max_queue=64)


def test_what_a_pass_takes_is_learned() -> None:
    forward = Doubling()

    async def body(batcher: Batcher[int, int]) -> None:
        forward.go.clear()
        waiting = asyncio.create_task(send(batcher, 1))
        await asyncio.sleep(0.3)
        forward.go.set()
        await waiting
        assert batcher._pass_s_per_item == pytest.approx(0.3, abs=0.1)
        slow_s = batcher._pass_s_per_item
        for n in range(3):
            await send(batcher, n)
        assert batcher._pass_s_per_item == pytest.approx(0.512 * slow_s, abs=0.05)

    run(forward, body)
