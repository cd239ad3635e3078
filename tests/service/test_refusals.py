"""The pace of refusals: some at once, the others when it is time to send again."""

from __future__ import annotations

import asyncio
import time

import pytest

from koine.errors import OverloadedError
from service.refusals import AT_ONCE_PER_S, LONGEST_S, Refusals


async def _hold(refusals: Refusals, after_s: float, **within: float) -> tuple[float, float]:
    """How long it was held, and what is left to wait after that."""
    error = OverloadedError("the queue is full", after_s)
    start = time.perf_counter()
    await refusals.hold(error, **within)
    return time.perf_counter() - start, error.retry_after_s


async def _spent() -> Refusals:
    """All that are answered at once are."""
    refusals = Refusals()
    held = [await _hold(refusals, 60.0) for _ in range(int(AT_ONCE_PER_S))]
    assert all(held_s < 0.1 and left_s == 60 for held_s, left_s in held)
    return refusals


def test_the_first_are_told_at_once_and_the_next_when_it_is_time() -> None:
    async def run() -> None:
        refusals = await _spent()
        many = [_hold(refusals, 0.3) for _ in range(20)]
        held = sorted(await asyncio.gather(*many))
        # a few came to be free while the first were told
        assert sum(held_s > 0.25 for held_s, _ in held) >= 10
        assert all(left_s == pytest.approx(0) for held_s, left_s in held if held_s > 0.25)

    asyncio.run(run())


def test_none_is_held_longer_than_the_longest() -> None:
    async def run() -> None:
        refusals = await _spent()
        held = await asyncio.gather(*(_hold(refusals, 60.0) for _ in range(20)))
        assert max(held_s for held_s, _ in held) == pytest.approx(LONGEST_S, abs=0.5)
        assert min(left_s for _, left_s in held) == 60 - LONGEST_S

    asyncio.run(run())


def test_a_client_that_would_have_left_is_told_at_once() -> None:
    async def run() -> None:
        refusals = await _spent()
        held = await asyncio.gather(*(_hold(refusals, 60.0, within_s=1.0) for _ in range(20)))
        assert all(held_s < 0.5 and left_s == 60 for held_s, left_s in held)

    asyncio.run(run())


def test_with_time_they_are_told_at_once_again() -> None:
    async def run() -> None:
        refusals = await _spent()
        await asyncio.sleep(0.2)
        held = [await _hold(refusals, 60.0) for _ in range(8)]
        assert all(held_s < 0.1 for held_s, _ in held)

    asyncio.run(run())
