"""What a real Redis keeps, gives back and must not be believed."""

from __future__ import annotations

import asyncio

import pytest

from service.cache import CodeCache
from service.cache.local import LocalTier
from service.cache.records import encode
from service.cache.redis_link import MAX_RECORD_BYTES, NAMESPACE, name_of
from service.cache.redis_writer import MAX_PENDING_BYTES
from tests.service.cache.codes import Computation, codes, eventually, key, metric
from tests.service.cache.opened import (
    BOUND_S,
    answered,
    calls,
    client_of,
    hit,
    opened,
    run,
    writer,
)
from tests.service.cache.server import RedisServer


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
        async with opened(redis_server.url, cache_ttl_s=1) as cache, client_of(redis_server) as see:
            await answered(cache, [1], Computation())
            await eventually(lambda: see.dbsize() == 1)
            await eventually(lambda: see.dbsize() == 0)
            assert not await hit(cache, 1)
        async with opened(redis_server.url) as cache, client_of(redis_server) as see:
            await answered(cache, [2], Computation())
            await eventually(lambda: hit(cache, 2))
            see.flushall()
            assert not await hit(cache, 2)
            await eventually(lambda: hit(cache, 2))

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
        async with opened(redis_server.url) as cache, client_of(redis_server) as see:
            see.set(name_of(key(1)), garbage)
            assert not await hit(cache, 1)
            await eventually(lambda: see.get(name_of(key(1))) == encode(key(1), codes(1)))
            await eventually(lambda: hit(cache, 1))

    run(body)


def test_another_type_under_a_key_is_a_miss(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start()
        async with opened(redis_server.url) as cache, client_of(redis_server) as see:
            see.rpush(name_of(key(1)), "a list")
            assert not await hit(cache, 1)
            await eventually(lambda: hit(cache, 1))  # SET replaces it

    run(body)


def test_one_look_up_for_a_request_and_for_a_burst_of_them(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start()
        async with opened(redis_server.url) as cache, client_of(redis_server) as see:
            before = calls(see, "mget")
            await answered(cache, list(range(40)), Computation())
            burst = [answered(cache, [100 + n], Computation()) for n in range(40)]
            await asyncio.gather(*burst)
            # one each, and what the idle task asks by itself; not one for each key
            assert calls(see, "mget") - before <= 5

    run(body)


def test_clients_that_leave_break_no_connection(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start()
        async with opened(redis_server.url) as cache, client_of(redis_server) as see:
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
        async with opened(redis_server.url) as cache, client_of(redis_server) as see:
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
