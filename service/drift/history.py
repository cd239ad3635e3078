"""What was judged and what is compared with, kept over restarts: in Redis, or in this process.

Knows bytes and times, no statistics. A window that is judged again takes the place of the first
verdict.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from pydantic import SecretStr

from service.cache.redis_link import connect, disconnect, exchanged
from service.counting.buckets import NAMESPACE, PATIENCE_S
from service.settings import Settings

KEPT = 1000
"""Windows of a segment."""
KEPT_S = 90 * 86_400
"""Seconds after the last of them that Redis forgets a segment's."""

T = TypeVar("T")


class Learnt(NamedTuple):
    """A reference that is, or was, learnt from traffic."""

    profile: bytes
    through: int
    """Windows up to this time are in it, in seconds since 1970."""
    whole: bool
    """Whether it has all the items it needs."""


class History(Protocol):
    """Of each dictionary's segments."""

    async def put(self, digest: str, segment: str, start: int, verdict: bytes) -> None:
        """Keeps the verdict on the window that began then. Raises `OSError`, as all here do."""
        ...

    async def latest(self, digest: str, segment: str, most: int) -> list[bytes]:
        """The last verdicts, oldest first."""
        ...

    async def learnt(self, digest: str, segment: str) -> Learnt | None:
        """The reference so far; None before the first window."""
        ...

    async def learn(self, digest: str, segment: str, learnt: Learnt) -> None:
        """Keeps it."""
        ...

    async def forget(self, digest: str, segment: str) -> None:
        """Drops the reference, so that another is learnt."""
        ...

    async def close(self) -> None:
        """Lets go of it."""
        ...


class OwnHistory:
    """In the memory of this process."""

    def __init__(self) -> None:
        self._verdicts: dict[tuple[str, str], dict[int, bytes]] = {}
        self._learnt: dict[tuple[str, str], Learnt] = {}

    async def put(self, digest: str, segment: str, start: int, verdict: bytes) -> None:
        """Keeps it, and forgets the oldest beyond `KEPT`."""
        kept = self._verdicts.setdefault((digest, segment), {})
        kept[start] = verdict
        for old in sorted(kept)[:-KEPT]:
            del kept[old]

    async def latest(self, digest: str, segment: str, most: int) -> list[bytes]:
        """The last ones."""
        kept = self._verdicts.get((digest, segment), {})
        return [kept[start] for start in sorted(kept)[-most:]] if most else []

    async def learnt(self, digest: str, segment: str) -> Learnt | None:
        """As kept."""
        return self._learnt.get((digest, segment))

    async def learn(self, digest: str, segment: str, learnt: Learnt) -> None:
        """Keeps it."""
        self._learnt[digest, segment] = learnt

    async def forget(self, digest: str, segment: str) -> None:
        """Drops it."""
        self._learnt.pop((digest, segment), None)

    async def close(self) -> None:
        """Has nothing to let go of."""


class RedisHistory:
    """A sorted set of verdicts by their windows' beginnings, and a hash for a reference."""

    def __init__(self, url: SecretStr) -> None:
        self._client = connect(url)

    async def put(self, digest: str, segment: str, start: int, verdict: bytes) -> None:
        """In one transaction. Raises `ConnectionError`."""
        name = _name(digest, "judged", segment)
        pipeline = cast(Any, self._client.pipeline(transaction=True))
        pipeline.zremrangebyscore(name, start, start)
        pipeline.zadd(name, {verdict: start})
        pipeline.zremrangebyrank(name, 0, -KEPT - 1)
        pipeline.expire(name, KEPT_S)
        pipeline.expire(_name(digest, "reference", segment), KEPT_S)
        await self._exchanged(pipeline.execute())

    async def latest(self, digest: str, segment: str, most: int) -> list[bytes]:
        """Raises `ConnectionError`."""
        if not most:
            return []
        name = _name(digest, "judged", segment)
        found = await self._exchanged(cast(Any, self._client).zrevrange(name, 0, most - 1))
        return list(reversed(found))

    async def learnt(self, digest: str, segment: str) -> Learnt | None:
        """Raises `ConnectionError`."""
        name = _name(digest, "reference", segment)
        found: dict[bytes, bytes] = await self._exchanged(cast(Any, self._client).hgetall(name))
        if not found:
            return None
        return Learnt(found[b"profile"], int(found[b"through"]), found[b"whole"] == b"1")

    async def learn(self, digest: str, segment: str, learnt: Learnt) -> None:
        """Raises `ConnectionError`."""
        name = _name(digest, "reference", segment)
        fields = {**learnt._asdict(), "whole": int(learnt.whole)}
        pipeline = cast(Any, self._client.pipeline(transaction=True))
        pipeline.hset(name, mapping=fields)
        pipeline.expire(name, KEPT_S)
        await self._exchanged(pipeline.execute())

    async def forget(self, digest: str, segment: str) -> None:
        """Raises `ConnectionError`."""
        name = _name(digest, "reference", segment)
        await self._exchanged(cast(Any, self._client).delete(name))

    async def close(self) -> None:
        """Closes the connection."""
        await disconnect(self._client)

    async def _exchanged(self, exchange: Awaitable[T]) -> T:
        return await exchanged(self._client, exchange, PATIENCE_S)


def history_of(settings: Settings) -> History:
    """Where the settings keep it."""
    if settings.redis_url is None:
        return OwnHistory()
    return RedisHistory(settings.redis_url)


def _name(digest: str, what: str, segment: str) -> str:
    return f"{NAMESPACE}:{digest}:{what}:{segment}"
