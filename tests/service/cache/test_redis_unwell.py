"""Redis stopped, paused, late, full, locked: answers are right, and come within a bound."""

from __future__ import annotations

import asyncio
import logging

import pytest

from service.cache import redis_reader
from service.cache.redis_reader import STRIKES
from tests.service.cache.codes import Computation, eventually, metric
from tests.service.cache.opened import (
    BOUND_S,
    answered,
    client_of,
    hit,
    opened,
    reader,
    run,
    writer,
)
from tests.service.cache.server import RedisServer


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
        async with opened(redis_server.url, redis_timeout_ms=25) as cache:
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


def test_paused_while_the_way_is_still_open(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_reader, "PATIENCE_S", 1000.0)  # only what a request waits is left

    async def body() -> None:
        redis_server.start()
        async with opened(redis_server.url, redis_timeout_ms=25) as cache:
            redis_server.pause()
            assert await answered(cache, [1], Computation()) < BOUND_S
            await asyncio.sleep(0.1)
            asked = metric("koine_cache_op_duration_seconds_count", op="get")
            bypassed = metric("koine_cache_requests_total", tier="redis", result="bypass")
            for n in range(20):
                assert await answered(cache, [n], Computation()) < BOUND_S
            assert reader(cache).up
            # one is overdue: the others do not wait for it
            assert metric("koine_cache_op_duration_seconds_count", op="get") == asked
            now = metric("koine_cache_requests_total", tier="redis", result="bypass")
            assert now == bypassed + 20
            redis_server.resume()
            await eventually(lambda: hit(cache, 1))

    run(body)


def test_always_late(redis_server: RedisServer) -> None:
    async def body() -> None:
        redis_server.start()
        async with opened(redis_server.url, redis_timeout_ms=10_000) as cache:
            await answered(cache, [1], Computation())
            await eventually(lambda: hit(cache, 1))
            reader(cache)._timeout_s = 1e-9  # every answer is late from now on
            for _ in range(STRIKES):
                await answered(cache, [1], Computation())
            await eventually(lambda: not reader(cache).up)
            await asyncio.sleep(0.5)  # trials are late too
            assert not reader(cache).up
            reader(cache)._timeout_s = 10
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
        async with opened(redis_server.url) as cache, client_of(redis_server) as see:
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
