"""One connection to Redis: which options, which names, which errors; decides nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from koine.errors import SettingsError
from service.settings import PREFIX

NAMESPACE = b"koine:codes:"
PATIENCE_S = 1.0
"""After which an exchange with Redis is given up; requests wait less, for `redis_timeout_ms`."""
MAX_RECORD_BYTES = 64 * 2**10
"""Larger records are not written."""
FAULTS = (RedisError, OSError, TimeoutError)
"""What talking to Redis raises where Redis, or the way there, is at fault."""

T = TypeVar("T")

log = logging.getLogger(__name__)


def connect(url: SecretStr) -> Redis:
    """A client that connects when it is first used and never tries anything twice by itself."""
    try:
        return Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            url.get_secret_value(),
            protocol=2,  # no HELLO and no pushed messages: nothing here needs them
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,  # every caller bounds the whole exchange instead
            socket_connect_timeout=PATIENCE_S,
            decode_responses=False,
        )
    except (ValueError, TypeError):  # the message may hold a part of the address
        raise SettingsError(
            f"`{PREFIX}REDIS_URL` cannot be read (not shown: it may hold a password); set it to "
            "redis://[user:password@]host[:port][/number], or leave it unset"
        ) from None


def name_of(key: bytes) -> bytes:
    """What an item's key is called in Redis."""
    return NAMESPACE + key.hex().encode()


async def disconnect(client: Redis) -> None:
    """Closes the connection, within a bounded time; the next use makes another."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await client.connection_pool.disconnect()
    except FAULTS as error:
        log.debug("the connection to Redis did not close: %s", error)


async def exchanged(client: Redis, exchange: Awaitable[T], patience_s: float) -> T:
    """What Redis answers. Raises `ConnectionError` where it fails, refuses or takes longer."""
    try:
        async with asyncio.timeout(patience_s):
            return await exchange
    except FAULTS as error:
        await disconnect(client)  # an answer that is half read would be taken for another
        kind = "refused" if isinstance(error, RedisError) else "cannot be reached"
        raise ConnectionError(f"Redis {kind}: {error or type(error).__name__}") from error
