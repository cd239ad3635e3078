"""Whose turn it is: some are told at once, the others wait, and most is let in then."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from koine.errors import OverloadedError
from service.admission import AT_ONCE_PER_S, LONGEST_S, Admission


class Full:
    """A queue that has room at a time, or never."""

    def __init__(self, after_s: float, *, room_in_s: float = math.inf) -> None:
        self._after_s, self._room_at = after_s, time.monotonic() + room_in_s
        self.left: list[float] = []

    def __call__(self, within_s: float) -> None:
        self.left.append(within_s)
        if time.monotonic() < self._room_at:
            raise OverloadedError("the queue is full", self._after_s)


async def _asked(
    admission: Admission, queue: Full, within_s: float = math.inf
) -> tuple[float, float | None]:
    """How long it waited, and what it is told to wait from then; None where it was let in."""
    start = time.perf_counter()
    try:
        await admission.when_room(queue, within_s)
    except OverloadedError as told:
        return time.perf_counter() - start, told.retry_after_s
    return time.perf_counter() - start, None


async def _busy() -> Admission:
    """All that are told at once have been."""
    admission = Admission()
    told = [await _asked(admission, Full(60.0)) for _ in range(int(AT_ONCE_PER_S))]
    assert all(waited_s < 0.1 and left_s == 60 for waited_s, left_s in told)
    return admission


def test_with_room_nobody_waits() -> None:
    async def run() -> None:
        admission = await _busy()
        assert await admission.when_room(Full(60.0, room_in_s=0)) == 0

    asyncio.run(run())


def test_the_first_are_told_at_once_and_the_next_let_in_when_there_is_room() -> None:
    async def run() -> None:
        admission = await _busy()
        queue = Full(0.1, room_in_s=0.35)
        asked = await asyncio.gather(*(_asked(admission, queue, 5.0) for _ in range(20)))
        let_in = [waited_s for waited_s, left_s in asked if left_s is None]
        assert len(let_in) >= 10  # a few came to be told while the first were
        assert min(let_in) > 0.3
        assert min(queue.left) < 4.7  # what is left of a client's time has become less

    asyncio.run(run())


@pytest.mark.parametrize("after_s", [60.0, 0.3])
def test_none_waits_longer_than_the_longest(after_s: float) -> None:
    async def run() -> None:
        admission = await _busy()
        asked = await asyncio.gather(*(_asked(admission, Full(after_s)) for _ in range(20)))
        waited = sorted(waited_s for waited_s, _ in asked)
        assert waited[-1] == pytest.approx(LONGEST_S, abs=0.5)
        told = max(left_s for waited_s, left_s in asked if waited_s > 1 and left_s is not None)
        assert told == pytest.approx(max(after_s - LONGEST_S, 0), abs=0.3)

    asyncio.run(run())


def test_a_client_that_would_have_left_is_told_at_once() -> None:
    async def run() -> None:
        admission = await _busy()
        asked = await asyncio.gather(*(_asked(admission, Full(60.0), 1.0) for _ in range(20)))
        assert all(waited_s < 0.5 and left_s == 60 for waited_s, left_s in asked)

    asyncio.run(run())


def test_with_time_they_are_told_at_once_again() -> None:
    async def run() -> None:
        admission = await _busy()
        await asyncio.sleep(0.2)
        asked = [await _asked(admission, Full(60.0)) for _ in range(8)]
        assert all(waited_s < 0.1 for waited_s, _ in asked)

    asyncio.run(run())
