"""Where the counts of stretches of time are kept: in this process, or in Redis for all of them.

All traffic has a bucket for each stretch, and so has every segment that is watched.

A writer puts all that it has counted in a bucket, again and again, under its own name: writing
twice changes nothing, and what Redis has lost of a bucket that still grows is there again.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

from pydantic import SecretStr

from service.cache.redis_link import connect, disconnect, exchanged

NAMESPACE = "koine:drift"
PATIENCE_S = 5.0
"""After which an exchange with Redis is given up, and tried again with the next one."""


T = TypeVar("T")


class Bucket(NamedTuple):
    """One stretch of time of one dictionary's traffic, or of a segment of it."""

    digest: str
    segment: str
    start: int
    """Seconds since 1970, a multiple of the bucket's length."""


@runtime_checkable
class Buckets(Protocol):
    """`put` what was counted, `read` what everybody did, and agree on the segments."""

    async def put(self, counts: Mapping[Bucket, bytes]) -> None:
        """Keeps this writer's counts in place of those that it put before. Raises `OSError`."""
        ...

    async def read(self, buckets: Sequence[Bucket]) -> list[bytes]:
        """Every writer's counts in these buckets. Raises `OSError`."""
        ...

    async def seen(self, digest: str, segments: Collection[str]) -> None:
        """Says that these segments are watched, and had items just now. Raises `OSError`."""
        ...

    async def segments(self, digest: str) -> set[str]:
        """Those that are watched: seen while counts are kept. Raises `OSError`."""
        ...

    async def close(self) -> None:
        """Lets go of it."""
        ...


class OwnBuckets:
    """In the memory of this process."""

    def __init__(self, keep_s: int) -> None:
        self._keep_s = keep_s
        self._kept: dict[Bucket, bytes] = {}
        self._seen: dict[str, dict[str, float]] = {}

    async def put(self, counts: Mapping[Bucket, bytes]) -> None:
        """Keeps them, and forgets what is too old beside the newest."""
        self._kept.update(counts)
        newest = max((bucket.start for bucket in self._kept), default=0)
        for bucket in [b for b in self._kept if b.start < newest - self._keep_s]:
            del self._kept[bucket]

    async def read(self, buckets: Sequence[Bucket]) -> list[bytes]:
        """Those that are kept."""
        return [self._kept[bucket] for bucket in buckets if bucket in self._kept]

    async def seen(self, digest: str, segments: Collection[str]) -> None:
        """Notes the time."""
        self._seen.setdefault(digest, {}).update(dict.fromkeys(segments, time.time()))

    async def segments(self, digest: str) -> set[str]:
        """Those that were seen lately."""
        oldest = time.time() - self._keep_s
        return {segment for segment, at in self._seen.get(digest, {}).items() if at >= oldest}

    async def close(self) -> None:
        """Has nothing to let go of."""


class RedisBuckets:
    """A hash for each bucket, a field for each writer; Redis forgets them by itself."""

    def __init__(self, url: SecretStr, writer: str, keep_s: int) -> None:
        self._client = connect(url)
        self._writer, self._keep_s = writer, keep_s

    async def put(self, counts: Mapping[Bucket, bytes]) -> None:
        """One pipeline. Raises `ConnectionError` where Redis fails or refuses."""

        async def write() -> None:
            async with self._client.pipeline(transaction=False) as pipeline:
                for bucket, content in counts.items():
                    key = _key(bucket)
                    cast(Any, pipeline).hset(key, self._writer, content)
                    cast(Any, pipeline).expire(key, self._keep_s)
                await pipeline.execute()

        await self._exchanged(write())

    async def read(self, buckets: Sequence[Bucket]) -> list[bytes]:
        """One pipeline. Raises `ConnectionError`."""

        async def ask() -> list[list[bytes]]:
            async with self._client.pipeline(transaction=False) as pipeline:
                for bucket in buckets:
                    cast(Any, pipeline).hvals(_key(bucket))
                return await pipeline.execute()

        return [content for each in await self._exchanged(ask()) for content in each]

    async def seen(self, digest: str, segments: Collection[str]) -> None:
        """In a sorted set, by when. Raises `ConnectionError`."""
        if not segments:
            return
        now, name = time.time(), _watched(digest)

        async def write() -> None:
            async with self._client.pipeline(transaction=False) as pipeline:
                cast(Any, pipeline).zadd(name, dict.fromkeys(segments, now))
                cast(Any, pipeline).expire(name, self._keep_s)
                await pipeline.execute()

        await self._exchanged(write())

    async def segments(self, digest: str) -> set[str]:
        """Those of the set that are young enough. Raises `ConnectionError`."""

        async def ask() -> list[bytes]:
            oldest = time.time() - self._keep_s
            return await cast(Any, self._client).zrangebyscore(_watched(digest), oldest, "+inf")

        return {name.decode() for name in await self._exchanged(ask())}

    async def close(self) -> None:
        """Closes the connection."""
        await disconnect(self._client)

    async def _exchanged(self, exchange: Awaitable[T]) -> T:
        return await exchanged(self._client, exchange, PATIENCE_S)


def _key(bucket: Bucket) -> str:
    return f"{NAMESPACE}:{bucket.digest}:counts:{bucket.start}:{bucket.segment}"


def _watched(digest: str) -> str:
    return f"{NAMESPACE}:{digest}:segments"
