"""A real Redis, well and unwell: answers are always right, and come within a bound."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis import Redis

from service.cache import CodeCache
from service.cache.local import LocalTier
from service.cache.records import encode
from service.cache.redis_link import MAX_RECORD_BYTES, NAMESPACE, name_of
from service.cache.redis_reader import RedisReader
from service.cache.redis_writer import MAX_PENDING_BYTES, RedisWriter
from service.settings import Settings
from tests.service.cache.codes import Computation, codes, eventually, key, metric, same
from tests.service.cache.server import RedisServer

BOUND_S = 5.0
"""Far above the 25 ms that a request waits, far below a client's patience: the machine is busy."""


def run(body: Callable[[], Awaitable[None]]) -> None:
    """In a loop of its own, with an end."""

    async def bounded() -> None:
        async with asyncio.timeout(120):
            await body()

    asyncio.run(bounded())


@asynccontextmanager
async def opened(url: str, *, up: bool = True, **settings: Any) -> AsyncIterator[CodeCache]:
    """A started cache of Redis alone, so that nothing hides what it does; connected, if `up`."""
    cache = CodeCache.of(Settings(redis_url=url, **({"cache_bytes": 0} | settings)))  # pyright: ignore[reportArgumentType]
    assert cache is not None
    await cache.start()
    try:
        if up:
            await eventually(lambda: reader(cache).up)
        yield cache
    finally:
        await cache.close()


def reader(cache: CodeCache) -> RedisReader:
    assert cache._reader is not None
    return cache._reader


def writer(cache: CodeCache) -> RedisWriter:
    assert cache._writer is not None
    return cache._writer


async def answered(cache: CodeCache, numbers: list[int], by: Computation) -> float:
    """Asks, checks every answer, returns the seconds that it took."""
    start = time.monotonic()
    answers = await cache.answers([key(n) for n in numbers], by.of(numbers))
    seconds = time.monotonic() - start
    assert all(same(a, codes(n)) for a, n in zip(answers, numbers, strict=True))
    return seconds


async def hit(cache: CodeCache, number: int) -> bool:
    """Whether it is answered without being computed."""
    computation = Computation()
    await answered(cache, [number], computation)
    return not computation.computed


def test_a_second_process_need_not_compute(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start()
        hits = metric("koine_cache_requests_total", tier="redis", result="hit")
        async with opened(redis_server.url) as one:
            await answered(one, [1, 2, 1], Computation())
            with redis_server.client() as client:
                await eventually(lambda: client.dbsize() == 2)
                assert client.ttl(name_of(key(1))) in range(3000, 3601)
                assert client.get(name_of(key(1))) == encode(key(1), codes(1))
        async with opened(redis_server.url, cache_bytes=2**20) as other:
            assert metric("koine_dependency_up", dependency="redis") == 1
            computation = Computation()
            await eventually(lambda: hit(other, 1))
            await eventually(lambda: hit(other, 2))
            await answered(other, [1, 2, 3], computation)
            assert computation.computed == [3]
        assert metric("koine_cache_requests_total", tier="redis", result="hit") >= hits + 2

    run(body)


def test_what_redis_had_is_kept_in_process(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start()
        with redis_server.client() as client:
            client.set(name_of(key(1)), encode(key(1), codes(1)))
        async with opened(redis_server.url, cache_bytes=2**20) as cache:
            await eventually(lambda: hit(cache, 1))
            redis_server.stop()
            assert await hit(cache, 1)

    run(body)


def test_codes_end_with_their_time_and_with_a_flush(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start()
        async with opened(redis_server.url, cache_ttl_s=1) as cache, _client(redis_server) as see:
            await answered(cache, [1], Computation())
            await eventually(lambda: see.dbsize() == 1)
            await eventually(lambda: see.dbsize() == 0)
            assert not await hit(cache, 1)
        async with opened(redis_server.url) as cache, _client(redis_server) as see:
            await answered(cache, [2], Computation())
            await eventually(lambda: hit(cache, 2))
            see.flushall()
            assert not await hit(cache, 2)
            await eventually(lambda: hit(cache, 2))

    run(body)


def test_stopped_and_started_again(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        caplog.set_level(logging.INFO, "service.cache")
        redis_server.start()
        async with opened(redis_server.url) as cache:
            await answered(cache, [1], Computation())
            await eventually(lambda: hit(cache, 1))
            redis_server.stop()
            for _ in range(20):
                assert await answered(cache, [1, 2], Computation()) < BOUND_S
            await eventually(lambda: not reader(cache).up)  # without a request, too
            assert metric("koine_dependency_up", dependency="redis") == 0
            bypassed = metric("koine_cache_requests_total", tier="redis", result="bypass")
            assert not await hit(cache, 1)
            assert metric("koine_cache_requests_total", tier="redis", result="bypass") > bypassed
            redis_server.start()
            await eventually(lambda: reader(cache).up)  # on its own
            await eventually(lambda: hit(cache, 1))
        warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert 1 <= len(warnings) <= 2  # told once each for reading and writing, not per try

    run(body)


def test_an_idle_service_notices_that_redis_is_gone(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start()
        async with opened(redis_server.url) as cache:
            redis_server.stop()
            await eventually(lambda: not reader(cache).up)

    run(body)


def test_paused(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start()
        async with opened(redis_server.url) as cache:
            await answered(cache, [1], Computation())
            await eventually(lambda: hit(cache, 1))
            redis_server.pause()
            burst = [answered(cache, [n, n + 1], Computation()) for n in range(50)]
            assert max(await asyncio.gather(*burst)) < BOUND_S
            await eventually(lambda: not reader(cache).up)
            asked = metric("koine_cache_op_duration_seconds_count", op="get")
            for n in range(50):
                assert await answered(cache, [n], Computation()) < BOUND_S
            # not one of them waited
            assert metric("koine_cache_op_duration_seconds_count", op="get") == asked
            redis_server.resume()
            await eventually(lambda: reader(cache).up)
            await eventually(lambda: hit(cache, 1))

    run(body)


def test_not_there_at_the_start(redis_server: RedisServer) -> None:
    async def body() -> None:
        async with opened(redis_server.url, up=False) as cache:
            assert await answered(cache, [1], Computation()) < BOUND_S
            redis_server.start()
            await eventually(lambda: reader(cache).up)
            await eventually(lambda: hit(cache, 1))

    run(body)


def test_full(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start("--maxmemory-policy", "noeviction")
        async with opened(redis_server.url) as cache, _client(redis_server) as see:
            await answered(cache, [1], Computation())
            await eventually(lambda: hit(cache, 1))
            see.config_set("maxmemory", "1mb")
            refused = metric("koine_cache_dropped_writes_total", reason="refused")
            assert await answered(cache, [2], Computation()) < BOUND_S
            await eventually(
                lambda: metric("koine_cache_dropped_writes_total", reason="refused") > refused
            )
            assert reader(cache).up  # what it has can still be read
            await eventually(lambda: hit(cache, 1))
            see.config_set("maxmemory", "0")
            await eventually(lambda: hit(cache, 2))

    run(body)


@pytest.mark.parametrize("given", ["", "default:wr0ng-secret@"])
def test_a_wrong_password(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, given: str
) -> None:
    async def body() -> None:
        redis_server.start(password="right-secret")
        url = f"redis://{given}127.0.0.1:{redis_server.port}"
        async with opened(url, up=False) as cache:
            await eventually(lambda: any("Redis" in r.getMessage() for r in caplog.records))
            for n in range(5):
                assert await answered(cache, [n], Computation()) < BOUND_S
            assert not reader(cache).up
            await eventually(lambda: not writer(cache).open)
            with redis_server.client("right-secret") as client:  # and it is set right there
                client.config_set("requirepass", "wr0ng-secret" if given else "")
            await eventually(lambda: reader(cache).up)
            await eventually(lambda: hit(cache, 1))
        assert "secret" not in caplog.text

    run(body)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"garbage",
        b"\x80\x04\x95\x00\x00.",
        encode(key(2), codes(2)),  # another key's
        encode(key(1), codes(1))[:-1],
        b"KOC2" + encode(key(1), codes(1))[4:],
        bytes(2**20),
    ],
)
def test_garbage_under_a_key_is_a_miss_and_is_replaced(
    redis_server: RedisServer, garbage: bytes
) -> None:
    async def body() -> None:
        redis_server.start()
        async with opened(redis_server.url) as cache, _client(redis_server) as see:
            see.set(name_of(key(1)), garbage)
            assert not await hit(cache, 1)
            await eventually(lambda: see.get(name_of(key(1))) == encode(key(1), codes(1)))
            await eventually(lambda: hit(cache, 1))

    run(body)


def test_another_type_under_a_key_is_a_miss(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start()
        async with opened(redis_server.url) as cache, _client(redis_server) as see:
            see.rpush(name_of(key(1)), "a list")
            assert not await hit(cache, 1)
            await eventually(lambda: hit(cache, 1))  # SET replaces it

    run(body)


def test_not_redis_at_all() -> None:
    async def body() -> None:
        async def speak(streams_in: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
            out.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await out.drain()
            await streams_in.read(100)
            out.close()

        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, opened(f"redis://127.0.0.1:{port}", up=False) as cache:
            for n in range(20):
                assert await answered(cache, [n], Computation()) < BOUND_S
                await asyncio.sleep(0.02)
            assert not reader(cache).up

    run(body)


def test_one_look_up_for_a_request_and_for_a_burst_of_them(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start()
        async with opened(redis_server.url) as cache, _client(redis_server) as see:
            before = _calls(see, "mget")
            await answered(cache, list(range(40)), Computation())
            burst = [answered(cache, [100 + n], Computation()) for n in range(40)]
            await asyncio.gather(*burst)
            # one each, and what the idle task asks by itself; not one for each key
            assert _calls(see, "mget") - before <= 5

    run(body)


def test_clients_that_leave_break_no_connection(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start()
        async with opened(redis_server.url) as cache, _client(redis_server) as see:
            await answered(cache, [1], Computation())
            await eventually(lambda: hit(cache, 1))
            before = see.info("stats")["total_connections_received"]
            for n in range(60):
                work = asyncio.create_task(cache.answers([key(1)], Computation().of([1])))
                for _ in range(n % 6):
                    await asyncio.sleep(0)
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
            assert await hit(cache, 1)
            assert see.info("stats")["total_connections_received"] == before
            assert len(cache._flights) == 0

    run(body)


def test_records_beyond_the_bounds_are_dropped_and_counted(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start()
        async with opened(redis_server.url) as cache, _client(redis_server) as see:
            redis_server.pause()
            large = metric("koine_cache_dropped_writes_total", reason="too_large")
            full = metric("koine_cache_dropped_writes_total", reason="queue_full")
            writer(cache).put({key(0): bytes(MAX_RECORD_BYTES + 1)})
            fit = MAX_PENDING_BYTES // MAX_RECORD_BYTES
            for n in range(fit + 3):
                writer(cache).put({key(n): bytes(MAX_RECORD_BYTES)})
            assert metric("koine_cache_dropped_writes_total", reason="too_large") == large + 1
            assert metric("koine_cache_dropped_writes_total", reason="queue_full") == full + 3
            redis_server.resume()
            await eventually(lambda: writer(cache).open and not writer(cache)._pending)
            assert writer(cache)._pending_bytes == 0
            await answered(cache, [1], Computation())
            await eventually(lambda: hit(cache, 1))
            assert all(name.startswith(NAMESPACE) for name in see.scan_iter())

    run(body)


def test_a_closed_cache_still_answers(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start()
        async with opened(redis_server.url) as cache:
            await answered(cache, [1], Computation())
        assert await answered(cache, [1], Computation()) < BOUND_S
        both = CodeCache(LocalTier(2**20, 10), cache._reader, cache._writer)
        await answered(both, [1], Computation())
        assert await hit(both, 1)

    run(body)


def _calls(see: Redis, command: str) -> int:
    stats: Any = see.info("commandstats")
    return stats.get(f"cmdstat_{command}", {"calls": 0})["calls"]


@asynccontextmanager
async def _client(server: RedisServer) -> AsyncIterator[Any]:
    with server.client() as client:
        yield client
