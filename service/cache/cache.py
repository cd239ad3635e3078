"""Answers from codes that were computed before, or are being computed; computes none itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import cast

from koine.errors import KoineError
from service import metrics
from service.cache import records
from service.cache.flights import Flights, Refused
from service.cache.local import LocalTier
from service.cache.redis_reader import RedisReader
from service.cache.redis_writer import RedisWriter
from service.flow import Answer
from service.settings import Settings

Compute = Callable[[list[int]], Awaitable[list[Answer]]]
"""Answers for the items at these positions, in order."""


class CodeCache:
    """`start` it in an event loop, ask for `answers`, `close` it."""

    def __init__(
        self,
        local: LocalTier | None = None,
        reader: RedisReader | None = None,
        writer: RedisWriter | None = None,
    ) -> None:
        self._local, self._reader, self._writer = local, reader, writer
        self._flights = Flights[Answer]()

    @classmethod
    def of(cls, settings: Settings) -> CodeCache | None:
        """The cache that the settings describe, None where they want none."""
        local = None
        if settings.cache_bytes:
            local = LocalTier(settings.cache_bytes, settings.cache_ttl_s)
        url = settings.redis_url
        if url is None:
            return None if local is None else cls(local)
        reader = RedisReader(url, settings.redis_timeout_ms / 1000)
        return cls(local, reader, RedisWriter(url, settings.cache_ttl_s))

    async def start(self) -> None:
        """Begins to connect to Redis, if there is one; waits for nothing."""
        if self._reader is not None and self._writer is not None:
            self._reader.start()
            self._writer.start()

    async def close(self) -> None:
        """Ends the connections to Redis."""
        if self._reader is not None and self._writer is not None:
            await self._reader.close()
            await self._writer.close()

    async def answers(self, keys: Sequence[bytes | None], compute: Compute) -> list[Answer]:
        """An answer for each key, in order; `compute` is asked for what nobody has or computes.

        A key of None is always computed. Raises what `compute` raises, or the `KoineError` that
        refused the request which was computing one of the keys.
        """
        request = _Request(keys)
        self._settle_counted(request)
        while request.uncached or request.open:
            boarding = self._flights.board(request.open)
            await self._lead(request, boarding.led, compute)
            if boarding.joined:
                landed = await boarding.next_landed()
                metrics.CACHE_SHARED.inc(len(landed))
                for key, answer in landed.items():
                    request.settle(key, answer)
            self._settle_local(request)  # what another took over from a leader that gave up
        return cast(list[Answer], request.answers)

    def _settle_counted(self, request: _Request) -> None:
        lookups = metrics.CACHE_REQUESTS
        lookups.labels("local", "bypass").inc(len(request.uncached))
        if self._local is not None:
            asked = len(request.open)
            self._settle_local(request)
            lookups.labels("local", "hit").inc(asked - len(request.open))
            lookups.labels("local", "miss").inc(len(request.open))
        metrics.CACHE_SHARED.inc(sum(len(places) - 1 for places in request.open.values()))

    def _settle_local(self, request: _Request) -> None:
        if self._local is None:
            return
        for key in list(request.open):
            record = self._local.get(key)
            rows = None if record is None else records.decode(key, record)
            if rows is not None:
                request.settle(key, rows)

    async def _lead(self, request: _Request, led: Iterable[bytes], compute: Compute) -> None:
        """Answers what this request leads and what is not cached, and lands all that it leads."""
        left = dict.fromkeys(led)
        ending: Refused | None = None
        try:
            for key, answer in (await self._from_redis(list(left))).items():
                self._flights.land(key, answer)
                del left[key]
                request.settle(key, answer)
            positions = sorted([*(request.open[key][0] for key in left), *request.uncached])
            if not positions:
                return
            computed = dict(zip(positions, await compute(positions), strict=True))
            fresh = {key: computed[request.open[key][0]] for key in left}
            for key, answer in fresh.items():
                self._flights.land(key, answer)
                del left[key]
                request.settle(key, answer)
            for n in request.uncached:
                request.answers[n] = computed[n]
            request.uncached.clear()
            self._store(fresh)
        except KoineError as error:
            ending = Refused(error)
            raise
        finally:
            for key in left:
                self._flights.land(key, ending)

    async def _from_redis(self, keys: list[bytes]) -> dict[bytes, Answer]:
        if self._reader is None or not keys:
            return {}
        reply = await self._reader.get(keys)
        lookups = metrics.CACHE_REQUESTS
        if reply.outcome != "answered":
            lookups.labels("redis", reply.outcome).inc(len(keys))
            return {}
        found: dict[bytes, Answer] = {}
        for key, record in reply.records.items():
            rows = records.decode(key, record)
            if rows is not None:
                found[key] = rows
                self._keep(key, record)
        lookups.labels("redis", "hit").inc(len(found))
        lookups.labels("redis", "error").inc(len(reply.records) - len(found))
        lookups.labels("redis", "miss").inc(len(keys) - len(reply.records))
        return found

    def _store(self, fresh: Mapping[bytes, Answer]) -> None:
        encoded = {
            key: records.encode(key, answer)
            for key, answer in fresh.items()
            if not isinstance(answer, KoineError)
        }
        for key, record in encoded.items():
            self._keep(key, record)
        if self._writer is not None:
            self._writer.put(encoded)

    def _keep(self, key: bytes, record: bytes) -> None:
        if self._local is not None:
            self._local.put(key, record)
            metrics.CACHE_BYTES.set(self._local.bytes)


class _Request:
    """What one request has been answered, and what it still needs."""

    def __init__(self, keys: Sequence[bytes | None]) -> None:
        self.answers: list[Answer | None] = [None] * len(keys)
        self.open: dict[bytes, list[int]] = {}
        """Positions of each key without an answer."""
        self.uncached: list[int] = []
        """Positions without a key and without an answer."""
        for n, key in enumerate(keys):
            if key is None:
                self.uncached.append(n)
            else:
                self.open.setdefault(key, []).append(n)

    def settle(self, key: bytes, answer: Answer) -> None:
        """Answers every position of the key."""
        for n in self.open.pop(key):
            self.answers[n] = answer
