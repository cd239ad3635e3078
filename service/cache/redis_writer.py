"""Writes records to Redis behind the answers; no request ever waits for it.

What does not fit into its bounded queue, or comes while Redis refuses or fails, is dropped and
counted: a cache that is not written costs an encoding later, nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, cast

from pydantic import SecretStr
from redis.exceptions import RedisError

from service import metrics
from service.cache.backoff import Backoff
from service.cache.redis_link import (
    FAULTS,
    MAX_RECORD_BYTES,
    PATIENCE_S,
    connect,
    disconnect,
    name_of,
)

MAX_PENDING_BYTES = 8 * 2**20
"""Records that may wait to be written."""
MAX_RECORDS = 512
"""Records of one pipeline."""

log = logging.getLogger(__name__)


class RedisWriter:
    """`start` it in an event loop, `put`, `close` it."""

    def __init__(self, url: SecretStr, ttl_s: int) -> None:
        self._client = connect(url)
        self._ttl_s = ttl_s
        self._pending: dict[bytes, bytes] = {}
        self._pending_bytes = 0
        self._wake = asyncio.Event()
        self._backoff = Backoff()
        self._loop: asyncio.Task[None] | None = None
        self._told = False
        self.open = False
        """Whether records are taken; not during the pause after a failure."""

    def start(self) -> None:
        """Begins to take records."""
        self.open = True
        self._loop = asyncio.create_task(self._run(), name="redis-writer")

    def put(self, records: Mapping[bytes, bytes]) -> None:
        """Leaves records to be written; never waits, drops what cannot be."""
        for key, record in records.items():
            reason = self._refusal(key, record)
            if reason is not None:
                metrics.CACHE_DROPPED.labels(reason).inc()
                continue
            self._pending_bytes += len(record) - len(self._pending.get(key, b""))
            self._pending[key] = record
            self._wake.set()

    def _refusal(self, key: bytes, record: bytes) -> str | None:
        if not self.open:
            return "unavailable"
        if len(record) > MAX_RECORD_BYTES:
            return "too_large"
        if self._pending_bytes + len(record) > MAX_PENDING_BYTES:
            return "queue_full"
        return None

    async def _run(self) -> None:
        while True:
            batch = await self._next_batch()
            start_s = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    refused = await self._write(batch)
                why = None if not refused else str(refused[0])
                metrics.CACHE_DROPPED.labels("refused").inc(len(refused))
            except FAULTS as error:
                why = f"{type(error).__name__}: {error}"
                metrics.CACHE_DROPPED.labels("unavailable").inc(len(batch))
            except Exception:  # the edge of a task that nobody awaits: it must go on
                log.exception("writing to Redis failed")
                why = "a fault of this service"
                metrics.CACHE_DROPPED.labels("unavailable").inc(len(batch))
            seconds = asyncio.get_running_loop().time() - start_s
            metrics.CACHE_SECONDS.labels("set").observe(seconds)
            if why is not None:
                await self._pause(why)
            else:
                self._told = False
                self._backoff.reset()

    async def _next_batch(self) -> dict[bytes, bytes]:
        while not self._pending:
            self._wake.clear()
            await self._wake.wait()
        batch = {key: self._pending[key] for key in list(self._pending)[:MAX_RECORDS]}
        for key, record in batch.items():
            del self._pending[key]
            self._pending_bytes -= len(record)
        return batch

    async def _write(self, batch: Mapping[bytes, bytes]) -> list[RedisError]:
        """One pipeline; returns what Redis refused, such as a record beyond its memory."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for key, record in batch.items():
                cast(Any, pipeline).set(name_of(key), record, ex=self._ttl_s)
            results = await pipeline.execute(raise_on_error=False)
        return [result for result in results if isinstance(result, RedisError)]

    async def _pause(self, why: str) -> None:
        self.open = False
        metrics.CACHE_DROPPED.labels("unavailable").inc(len(self._pending))
        self._pending, self._pending_bytes = {}, 0
        if not self._told:
            log.warning("codes are not written to Redis (%s); trying again by itself", why)
        self._told = True
        await disconnect(self._client)
        await asyncio.sleep(self._backoff.next_s())
        self.open = True

    async def close(self) -> None:
        """Ends the task and the connection; what was not written is lost."""
        self.open = False
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        await disconnect(self._client)
