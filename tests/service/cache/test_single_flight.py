"""One computation for a burst: shared, taken over, refused; under any order and cancellation."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from koine.errors import ActivationsError, OverloadedError
from service import metrics
from service.cache import CodeCache
from service.cache.cache import Answer, Compute
from service.cache.local import LocalTier
from service.settings import Settings
from tests.service.cache.codes import Computation, codes, key, metric, same
from tests.service.cache.opened import run


class Held:
    """A computation that waits for the test, then ends as it says."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self.ending: Exception | None = None

    def of(self, numbers: list[int]) -> Compute:
        async def compute(positions: list[int]) -> list[Answer]:
            self.asked.append([numbers[n] for n in positions])
            self.started.set()
            await self.go.wait()
            if self.ending is not None:
                raise self.ending
            return [codes(numbers[n]) for n in positions]

        return compute


def ask(cache: CodeCache, numbers: list[int], by: Held | Computation) -> asyncio.Task[list[Answer]]:
    """A request under way for these numbers."""
    work = cache.answers([key(n) for n in numbers], by.of(numbers))
    return asyncio.create_task(work)  # pyright: ignore[reportArgumentType]


async def settle() -> None:
    """Lets everything that can run, run."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture(params=["local", "flights only"])
def cache(request: pytest.FixtureRequest) -> CodeCache:
    """With and without a tier that remembers."""
    return CodeCache(LocalTier(2**20, 3600) if request.param == "local" else None)


def test_a_burst_is_computed_once(cache: CodeCache) -> None:
    async def body() -> None:
        before = metric("koine_cache_shared_total")
        held = Held()
        requests = [ask(cache, [1], held) for _ in range(50)]
        await held.started.wait()
        held.go.set()
        for (answer,) in await asyncio.gather(*requests):
            assert same(answer, codes(1))
        assert held.asked == [[1]]
        assert metric("koine_cache_shared_total") - before == 49

    run(body)


def test_a_key_that_occurs_again_in_a_request_is_computed_once(cache: CodeCache) -> None:
    async def body() -> None:
        computation = Computation()
        answers = await ask(cache, [1, 2, 1, 1], computation)
        assert computation.computed == [1, 2]
        assert all(same(a, codes(n)) for a, n in zip(answers, [1, 2, 1, 1], strict=True))

    run(body)


def test_items_without_a_key_are_computed_each(cache: CodeCache) -> None:
    async def body() -> None:
        computation = Computation()
        keys = [None, key(1), None, None]
        for _ in range(2):
            answers = await cache.answers(keys, computation.of([5, 1, 5, 6]))
            assert all(same(a, codes(n)) for a, n in zip(answers, [5, 1, 5, 6], strict=True))
        assert sorted(computation.computed)[-6:] == [5, 5, 5, 5, 6, 6]

    run(body)


def test_no_items_are_no_answers(cache: CodeCache) -> None:
    async def body() -> None:
        assert await cache.answers([], Computation().of([])) == []

    run(body)


def test_requests_that_lead_what_the_other_waits_for(cache: CodeCache) -> None:
    async def body() -> None:
        one, other = Held(), Held()
        first = ask(cache, [1, 3], one)
        await one.started.wait()
        second = ask(cache, [2, 1], other)
        await other.started.wait()
        third = ask(cache, [3, 2], one)
        one.go.set()
        other.go.set()
        answers = [*await first, *await second, *await third]
        assert all(same(a, codes(n)) for a, n in zip(answers, [1, 3, 2, 1, 3, 2], strict=True))
        assert one.asked + other.asked == [[1, 3], [2]]

    run(body)


@pytest.mark.parametrize("ending", ["cancelled", "fault"])
def test_a_waiter_takes_over_from_a_leader_that_gave_up(cache: CodeCache, ending: str) -> None:
    async def body() -> None:
        bad, good = Held(), Held()
        leader = ask(cache, [1, 2], bad)
        await bad.started.wait()
        waiters = [ask(cache, [2], good), ask(cache, [1, 2], good), ask(cache, [2], good)]
        await settle()
        if ending == "cancelled":
            leader.cancel()
        else:
            bad.ending = ZeroDivisionError()
            bad.go.set()
        with pytest.raises(asyncio.CancelledError if ending == "cancelled" else ZeroDivisionError):
            await leader
        await settle()
        good.go.set()
        answers = [await waiter for waiter in waiters]
        assert [len(some) for some in answers] == [1, 2, 1]
        assert same(answers[1][0], codes(1))
        assert all(same(some[-1], codes(2)) for some in answers)
        assert sorted(n for asked in good.asked for n in asked) == [1, 2]  # once each

    run(body)


def test_a_waiter_that_leaves_harms_nobody(cache: CodeCache) -> None:
    async def body() -> None:
        held = Held()
        leader = ask(cache, [1], held)
        await held.started.wait()
        leaves, stays = ask(cache, [1], held), ask(cache, [1], held)
        await settle()
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        held.go.set()
        assert same((await leader)[0], codes(1))
        assert same((await stays)[0], codes(1))
        assert held.asked == [[1]]

    run(body)


def test_a_refusal_reaches_everybody_who_waited(cache: CodeCache) -> None:
    async def body() -> None:
        full, never = Held(), Held()
        leader = ask(cache, [1], full)
        await full.started.wait()
        waiters = [ask(cache, [1], never) for _ in range(5)]
        await settle()
        full.ending = OverloadedError("full", 2.5)
        full.go.set()
        for request in [leader, *waiters]:
            with pytest.raises(OverloadedError, match="full") as caught:
                await request
            assert caught.value.retry_after_s == 2.5
        assert never.asked == []
        never.go.set()
        assert same((await ask(cache, [1], never))[0], codes(1))  # and is not remembered

    run(body)


def test_errors_of_items_are_shared_and_not_remembered(cache: CodeCache) -> None:
    async def body() -> None:
        calls = 0

        async def compute(positions: list[int]) -> list[Answer]:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0)
            return [ActivationsError("bad"), codes(2)][: len(positions)]

        for _ in range(2):
            both = [cache.answers([key(1), key(2)], compute) for _ in range(2)]
            for first, second in await asyncio.gather(*both):
                assert isinstance(first, ActivationsError)
                assert same(second, codes(2))
        assert calls == 2

    run(body)


def test_answers_of_a_wrong_number_are_a_fault_not_a_mixture(cache: CodeCache) -> None:
    async def body() -> None:
        async def compute(positions: list[int]) -> list[Answer]:
            return [codes(1)]

        with pytest.raises(ValueError, match="zip"):
            await cache.answers([key(1), key(2)], compute)
        assert same((await ask(cache, [2], Computation()))[0], codes(2))

    run(body)


def test_kept_codes_do_not_change_with_what_a_client_got() -> None:
    async def body() -> None:
        cache, computation = CodeCache(LocalTier(2**20, 3600)), Computation()
        for _ in range(3):
            (answer,) = await ask(cache, [1], computation)
            assert isinstance(answer, dict)
            assert same(answer, codes(1))
            answer["tiny_a"].values_K[:] = -1
            del answer["tiny_text"]
        assert computation.computed == [1]

    run(body)


def test_of_settings() -> None:
    assert CodeCache.of(Settings(cache_bytes=0)) is None
    cache = CodeCache.of(Settings())
    assert cache is not None

    async def body() -> None:
        await cache.start()
        (answer,) = await ask(cache, [1], Computation())
        assert same(answer, codes(1))
        await cache.close()
        assert metric("koine_cache_bytes") > 0

    run(body)


def test_every_series_is_there_before_it_counts() -> None:
    metrics.prepare([])
    series = [
        *(
            ("koine_cache_requests_total", {"tier": tier, "result": result})
            for tier in ("local", "redis")
            for result in ("hit", "miss", "error", "bypass")
        ),
        *(
            ("koine_cache_dropped_writes_total", {"reason": reason})
            for reason in ("queue_full", "too_large", "unavailable", "refused")
        ),
        *(("koine_cache_op_duration_seconds_count", {"op": op}) for op in ("get", "set")),
        ("koine_cache_shared_total", {}),
        ("koine_cache_bytes", {}),
    ]
    missing = [s for s in series if REGISTRY.get_sample_value(s[0], s[1]) is None]
    assert missing == []
