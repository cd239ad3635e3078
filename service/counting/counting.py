"""Counts what is answered, beside the answering; judges nothing.

An answer leaves its rows behind and goes on; a thread adds them up every few seconds and puts the
sums where `buckets.py` keeps them. Equal items within a bucket count once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from koine.codes import PAD, Codes
from koine.drift.tally import Tally
from koine.errors import ArtifactError, KoineError
from koine.profile import Profile, profile_bytes, profile_of
from koine.types import Mode
from service import metrics
from service.contents import Contents
from service.counting.buckets import Bucket, Buckets, OwnBuckets, RedisBuckets
from service.flow import Answer
from service.jobs import Row
from service.settings import Settings

FLUSH_S = 5.0
"""How often sums are put where others see them."""
MOST_PENDING = 50_000
"""Items that may wait to be added up; more are left out and counted."""
MOST_LATE = 120
"""Buckets that wait for a Redis that is away; the oldest are lost then."""

log = logging.getLogger(__name__)


class Served(NamedTuple):
    """What is needed of a dictionary to count its codes."""

    digest: str
    title: str
    streams: tuple[str, ...]
    num_concepts: int
    k: int


class Window(NamedTuple):
    """What all processes counted in a stretch of time."""

    start: int
    end: int
    """Seconds since 1970."""
    profile: Profile | None
    """None where nobody counted anything."""


class _Waiting(NamedTuple):
    contents: Contents
    client: str
    rows: Mapping[str, Row]


@dataclass
class _Counted:
    """One bucket as it grows."""

    tally: Tally
    known: set[int] = field(default_factory=set[int])
    """Of what was counted: 8 bytes of its digest."""
    put: bool = True
    """Whether others see all of it."""


class Counting:
    """`start` it in an event loop, `take` answers, ask for a `window`, `close` it."""

    def __init__(self, buckets: Buckets, bucket_s: int) -> None:
        self._buckets, self._bucket_s = buckets, bucket_s
        self._waiting: dict[tuple[Bucket, Served], list[_Waiting]] = {}
        self._pending = 0
        self._counted: dict[Bucket, _Counted] = {}
        self._flushing = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None
        self._told = False

    @classmethod
    def of(cls, settings: Settings) -> Counting | None:
        """As the settings want it; None where they want none."""
        if not settings.drift:
            return None
        keep_s = settings.drift_keep_s
        if settings.redis_url is None:
            return cls(OwnBuckets(keep_s), settings.drift_bucket_s)
        # a process that starts again is another writer: it knows nothing of what it had counted
        writer = secrets.token_hex(8)
        buckets = RedisBuckets(settings.redis_url, writer, keep_s)
        return cls(buckets, settings.drift_bucket_s)

    def start(self) -> None:
        """Begins to add up."""
        self._running = asyncio.create_task(self._run(), name="counting")

    def take(
        self,
        served: Served,
        mode: Mode,
        contents: Sequence[Contents | None],
        answers: Sequence[Answer],
        client: str,
    ) -> None:
        """Leaves answers to be counted; costs an answer next to nothing.

        Codes that items' streams chose together say more of each other than of the item, and are
        not counted.
        """
        if mode != "independent":
            return
        start = int(time.time()) // self._bucket_s * self._bucket_s
        waiting = self._waiting.setdefault((Bucket(served.digest, start), served), [])
        for content, answer in zip(contents, answers, strict=True):
            if content is None or isinstance(answer, KoineError):
                continue
            if self._pending >= MOST_PENDING:
                metrics.DRIFT_ITEMS.labels("dropped").inc()
                continue
            self._pending += 1
            waiting.append(_Waiting(content, client, answer))

    async def flush(self) -> None:
        """Adds up what waits and puts it where others see it; a Redis that is away is waited for
        until the next time."""
        async with self._flushing:
            waiting, self._waiting, self._pending = self._waiting, {}, 0
            counts = await asyncio.to_thread(self._add_up, waiting)
            try:
                if counts:
                    await self._buckets.put(counts)
            except OSError as error:
                if not self._told:
                    log.warning("counts wait to be written: %s", error)
                self._told = True
                return
            self._told = False
            self._forget(counts)

    async def window(self, digest: str, seconds: int) -> Window:
        """The last `seconds`, in whole buckets, the one that still grows included.

        Raises `OSError` where Redis cannot be asked, `ArtifactError` for counts that are damaged.
        """
        await self.flush()
        last = int(time.time()) // self._bucket_s
        first = last + 1 - max(1, -(-seconds // self._bucket_s))
        starts = [number * self._bucket_s for number in range(first, last + 1)]
        found = await self._buckets.read([Bucket(digest, start) for start in starts])
        profile = await asyncio.to_thread(_total, found)
        return Window(starts[0], starts[-1] + self._bucket_s, profile)

    async def close(self) -> None:
        """Puts what is left, and lets go."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            await self.flush()
        await self._buckets.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush()
            except Exception:  # the edge of a task that nobody awaits: it must go on
                log.exception("an unforeseen error while counting")

    def _add_up(
        self, waiting: Mapping[tuple[Bucket, Served], Sequence[_Waiting]]
    ) -> dict[Bucket, bytes]:
        """Every bucket that others do not see whole."""
        for (bucket, served), items in waiting.items():
            counted = self._counted.get(bucket)
            if counted is None:
                tally = Tally(served.title, served.streams, served.num_concepts, served.k)
                counted = self._counted[bucket] = _Counted(tally)
            fresh: list[_Waiting] = []
            for item in items:
                key = hash(tuple(sorted(item.contents.items())))
                if key not in counted.known:
                    counted.known.add(key)
                    fresh.append(item)
            metrics.DRIFT_ITEMS.labels("duplicate").inc(len(items) - len(fresh))
            metrics.DRIFT_ITEMS.labels("counted").inc(len(fresh))
            if fresh:
                counted.tally.add(*_columns(served, fresh), [item.client for item in fresh])
                counted.put = False
        late = sorted((b for b, each in self._counted.items() if not each.put), key=_start)
        for bucket in late[:-MOST_LATE]:
            del self._counted[bucket]
            log.error("the counts of %s were never written and are lost", bucket.start)
        return {
            bucket: zlib.compress(profile_bytes(self._counted[bucket].tally.profile()), 1)
            for bucket in late[-MOST_LATE:]
        }

    def _forget(self, put: Mapping[Bucket, bytes]) -> None:
        """What was put and has ended needs no sums any more."""
        for bucket in put:
            self._counted[bucket].put = True
        now = time.time()
        for bucket in [b for b, each in self._counted.items() if each.put]:
            if bucket.start + self._bucket_s + FLUSH_S < now:
                del self._counted[bucket]


def _start(bucket: Bucket) -> int:
    return bucket.start


def _columns(
    served: Served, items: Sequence[_Waiting]
) -> tuple[dict[str, Codes], dict[str, list[int]]]:
    """Codes by stream, and which item each row is."""
    codes: dict[str, Codes] = {}
    rows: dict[str, list[int]] = {}
    for name in served.streams:
        at = [n for n, item in enumerate(items) if name in item.rows]
        if not at:
            continue
        own = [items[n].rows[name] for n in at]
        indices_NK = np.full((len(at), served.k), PAD, np.int32)
        values_NK = np.zeros((len(at), served.k), np.float32)
        for n, row in enumerate(own):
            indices_NK[n, : len(row.indices_K)] = row.indices_K
            values_NK[n, : len(row.values_K)] = row.values_K
        fvu_N = np.array([row.fvu for row in own], np.float32)
        codes[name], rows[name] = Codes(indices_NK, values_NK, fvu_N), at
    return codes, rows


def _total(found: Sequence[bytes]) -> Profile | None:
    total: Profile | None = None
    for content in found:
        try:
            profile = profile_of(zlib.decompress(content), "a bucket's counts")
        except zlib.error as error:
            raise ArtifactError(f"a bucket's counts are damaged: {error}") from error
        total = profile if total is None else total + profile
    return total
