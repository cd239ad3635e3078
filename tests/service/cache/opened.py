"""A cache on a real Redis, open for as long as a test looks at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr
from redis import Redis

from service.cache import CodeCache
from service.cache.redis_reader import RedisReader
from service.cache.redis_writer import RedisWriter
from service.settings import Settings
from tests.service.cache.codes import Computation, codes, eventually, key, same
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
    """A started cache of Redis alone, so that nothing hides what it does; connected, if `up`.

    It waits for Redis for longer than in production: a busy machine is not what is tested.
    """
    chosen: dict[str, Any] = {"cache_bytes": 0, "redis_timeout_ms": 2000, **settings}
    cache = CodeCache.of(Settings(redis_url=SecretStr(url), **chosen))
    assert cache is not None
    await cache.start()
    try:
        if up:
            await eventually(lambda: reader(cache).up)
        yield cache
    finally:
        await cache.close()


def reader(cache: CodeCache) -> RedisReader:
    """What reads for it."""
    assert cache._reader is not None
    return cache._reader


def writer(cache: CodeCache) -> RedisWriter:
    """What writes for it."""
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


def calls(see: Redis, command: str) -> int:
    """How often Redis was given the command."""
    stats: Any = see.info("commandstats")
    return stats.get(f"cmdstat_{command}", {"calls": 0})["calls"]


@asynccontextmanager
async def client_of(server: RedisServer) -> AsyncIterator[Any]:
    """A client of the test\'s own."""
    with server.client() as client:
        yield client
