"""One of several processes judges, whatever becomes of the others and of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.drift.leader import Leader
from tests.service.cache.server import RedisServer

ONE = ["d" * 64]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def test_the_lease_is_one_s_until_it_resigns(redis: RedisServer) -> None:
    async def work() -> None:
        one, other = Leader(SecretStr(redis.url)), Leader(SecretStr(redis.url))
        assert [await one.leads(ONE), await other.leads(ONE)] == [True, False]
        assert [await one.leads(ONE), await other.leads(ONE)] == [True, False]
        await one.resign()
        assert await other.leads(ONE)
        assert await one.leads(ONE) is False
        await one.resign()  # of what it has not: changes nothing
        assert await other.leads(ONE)
        await other.resign()

    asyncio.run(work())


def test_the_lease_of_one_that_was_killed_ends(redis: RedisServer) -> None:
    async def work() -> None:
        killed = Leader(SecretStr(redis.url), lease_s=0.5)
        other = Leader(SecretStr(redis.url), lease_s=0.5)
        assert await killed.leads(ONE)
        assert await other.leads(ONE) is False
        await asyncio.sleep(0.6)
        assert await other.leads(ONE)
        assert await killed.leads(ONE) is False  # it was only asleep
        await killed.resign()
        await other.resign()

    asyncio.run(work())


def test_other_dictionaries_have_another_leader(redis: RedisServer) -> None:
    async def work() -> None:
        one, other = Leader(SecretStr(redis.url)), Leader(SecretStr(redis.url))
        assert await one.leads(ONE)
        assert await other.leads(["e" * 64])
        assert await other.leads(ONE) is False  # it changed over, and let go of the other
        assert await one.leads(["e" * 64])
        assert await other.leads(ONE)
        await one.resign()
        await other.resign()

    asyncio.run(work())


def test_without_redis_nobody_knows(redis: RedisServer) -> None:
    async def work() -> None:
        one = Leader(SecretStr(redis.url))
        assert await one.leads(ONE)
        redis.stop()
        assert await one.leads(ONE) is None
        redis.start()  # it has forgotten the lease
        assert await one.leads(ONE)
        with redis.client() as client:
            client.flushall()
        assert await one.leads(ONE)
        await one.resign()

    asyncio.run(work())
