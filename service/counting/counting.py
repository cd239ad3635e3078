"""Counts what is answered, beside the answering; judges nothing.

An answer leaves its rows behind and goes on; a thread adds them up every few seconds and puts the
sums where `buckets.py` keeps them. Equal items within a window count once, for who sent the first.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from koine.codes import PAD, Codes
from koine.drift.segments import ALL, Asker, is_key, segments_of
from koine.drift.tally import Tally, group_of, tally_bytes
from koine.errors import KoineError
from koine.types import Modality, Mode
from service import metrics
from service.contents import ACTIVATIONS, Contents
from service.counting.admission import Admission
from service.counting.buckets import Bucket, Buckets, OwnBuckets, RedisBuckets
from service.counting.known import Known
from service.counting.window import Window, read_window
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
    modalities: tuple[Modality, ...]
    num_concepts: int
    k: int
    tops: tuple[tuple[int, ...], ...]
    """Concepts of each stream whose pairs are counted."""


class _Waiting(NamedTuple):
    contents: Contents
    asker: Asker
    rows: Mapping[str, Row]


class _Stretch(NamedTuple):
    """A stretch of time of a dictionary."""

    digest: str
    start: int


@dataclass
class _Counted:
    """One stretch as it grows."""

    tallies: dict[str, Tally] = field(default_factory=dict[str, Tally])
    """By segment."""
    unseen: set[str] = field(default_factory=set[str])
    """Segments that others do not see whole."""


class Counting:
    """`start` it in an event loop, `take` answers, ask for a `window`, `close` it."""

    def __init__(
        self, buckets: Buckets, bucket_s: int, window_s: int = 0, most_segments: int = 0
    ) -> None:
        """`window_s`: in which equal items count once; a bucket's length where that is more."""
        self.buckets = buckets
        self._window_s = max(window_s, bucket_s)
        self._bucket_s, self._admission = bucket_s, Admission(buckets, most_segments)
        self._waiting: dict[tuple[int, Served], list[_Waiting]] = {}
        self._pending = 0
        self._counted: dict[_Stretch, _Counted] = {}
        self._known: dict[_Stretch, Known] = {}
        self._flushing = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None
        self._told = False

    @classmethod
    def of(cls, settings: Settings) -> Counting | None:
        """As the settings want it; None where they want none."""
        if not settings.drift:
            return None
        buckets, window_s = buckets_of(settings), settings.drift_window_s
        return cls(buckets, settings.drift_bucket_s, window_s, settings.drift_segments)

    def start(self) -> None:
        """Begins to add up."""
        self._running = asyncio.create_task(self._run(), name="counting")

    def take(
        self,
        served: Served,
        mode: Mode,
        contents: Sequence[Contents | None],
        answers: Sequence[Answer],
        asker: Asker,
    ) -> None:
        """Leaves answers to be counted; costs an answer next to nothing.

        Codes that items' streams chose together say more of each other than of the item, and are
        not counted.
        """
        if mode != "independent":
            return
        start = int(time.time()) // self._bucket_s * self._bucket_s
        waiting = self._waiting.setdefault((start, served), [])
        for content, answer in zip(contents, answers, strict=True):
            if content is None or isinstance(answer, KoineError):
                continue
            if self._pending >= MOST_PENDING:
                metrics.DRIFT_ITEMS.labels("dropped").inc()
                continue
            self._pending += 1
            waiting.append(_Waiting(content, asker, answer))

    async def flush(self) -> None:
        """Adds up what waits and puts it where others see it; a Redis that is away is waited for
        until the next time."""
        async with self._flushing:
            waiting, self._waiting, self._pending = self._waiting, {}, 0
            watched: dict[str, set[str]] = {}
            for (_, served), items in waiting.items():
                asked = {segment for item in items for segment in segments_of(item.asker)}
                watched[served.digest] = await self._admission.admitted(served.digest, asked)
            counts = await asyncio.to_thread(self._add_up, waiting, watched)
            try:
                if counts:
                    await self.buckets.put(counts)
            except OSError as error:
                if not self._told:
                    log.warning("counts wait to be written: %s", error)
                self._told = True
                return
            self._told = False
            self._forget(counts)

    async def window(self, digest: str, seconds: int, segment: str = ALL) -> Window:
        """The last `seconds`, in whole buckets, the one that still grows included.

        Raises `OSError` where Redis cannot be asked, `ArtifactError` for counts that are damaged.
        """
        await self.flush()
        last = int(time.time()) // self._bucket_s
        first = last + 1 - max(1, -(-seconds // self._bucket_s))
        end = (last + 1) * self._bucket_s
        return await read_window(
            self.buckets, digest, segment, first * self._bucket_s, end, self._bucket_s
        )

    async def close(self) -> None:
        """Puts what is left, and lets go."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            await self.flush()
        await self.buckets.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush()
            except Exception:  # the edge of a task that nobody awaits: it must go on
                log.exception("an unforeseen error while counting")

    def _add_up(
        self,
        waiting: Mapping[tuple[int, Served], Sequence[_Waiting]],
        watched: Mapping[str, set[str]],
    ) -> dict[Bucket, bytes]:
        """Every bucket that others do not see whole."""
        for (start, served), items in waiting.items():
            stretch = _Stretch(served.digest, start)
            counted = self._counted.get(stretch)
            if counted is None:
                counted = self._counted[stretch] = _Counted()
            fresh = self._fresh(stretch, served, items)
            metrics.DRIFT_ITEMS.labels("duplicate").inc(len(items) - len(fresh))
            metrics.DRIFT_ITEMS.labels("counted").inc(len(fresh))
            if fresh:
                minute = start // self._bucket_s
                _count(served, fresh, minute, counted, watched[served.digest])
        late = sorted((s for s, each in self._counted.items() if each.unseen), key=_start)
        for stretch in late[:-MOST_LATE]:
            del self._counted[stretch]
            log.error("the counts of %s were never written and are lost", stretch.start)
        return {
            Bucket(stretch.digest, segment, stretch.start): tally_bytes(
                self._counted[stretch].tallies[segment]
            )
            for stretch in late[-MOST_LATE:]
            for segment in self._counted[stretch].unseen
        }

    def _fresh(
        self, stretch: _Stretch, served: Served, items: Sequence[_Waiting]
    ) -> list[_Waiting]:
        """Those with streams that read nothing like it before in the window, and those streams.

        An image with five captions is one item of the image streams and five of the text streams.
        """
        start = stretch.start // self._window_s * self._window_s
        window = _Stretch(stretch.digest, start)
        for old in [s for s in self._known if s.start < start - self._window_s]:
            del self._known[old]
        known = self._known.setdefault(window, Known())
        if known.full:
            log.debug("equal items of this window count again: too many different ones came")
        modality = dict(zip(served.streams, served.modalities, strict=True))
        keys = [
            hash((name, _read_by(name, modality[name], item.contents)))
            for item in items
            for name in item.rows
        ]
        first = iter(known.first(np.array(keys, np.int64).view(np.uint64)).tolist())
        left = [
            item._replace(rows={name: row for name, row in item.rows.items() if next(first)})
            for item in items
        ]
        return [item for item in left if item.rows]

    def _forget(self, put: Collection[Bucket]) -> None:
        """What was put and has ended needs no sums any more."""
        for bucket in put:
            self._counted[_Stretch(bucket.digest, bucket.start)].unseen.discard(bucket.segment)
        now = time.time()
        for stretch in [s for s, each in self._counted.items() if not each.unseen]:
            if stretch.start + self._bucket_s + FLUSH_S < now:
                del self._counted[stretch]


def buckets_of(settings: Settings) -> Buckets:
    """Where the settings keep counts."""
    if settings.redis_url is None:
        return OwnBuckets(settings.drift_keep_s)
    # a process that starts again is another writer: it knows nothing of what it had counted
    writer = secrets.token_hex(8)
    return RedisBuckets(settings.redis_url, writer, settings.drift_keep_s)


def _start(stretch: _Stretch) -> int:
    return stretch.start


def _read_by(stream: str, modality: Modality, contents: Contents) -> str | None:
    """The digest of the part of an item that a stream read."""
    return contents.get(f"{ACTIVATIONS}{stream}") or contents.get(modality)


def _count(
    served: Served, items: Sequence[_Waiting], minute: int, counted: _Counted, watched: set[str]
) -> None:
    codes, rows = _columns(served, items)
    tops = {
        name: np.array(top, np.int32) for name, top in zip(served.streams, served.tops, strict=True)
    }
    places: dict[str, list[int]] = {ALL: list(range(len(items)))}
    for n, item in enumerate(items):
        for segment in segments_of(item.asker):
            if segment in watched:
                places.setdefault(segment, []).append(n)
    for segment, at in places.items():
        # of one key's items, none knows more of the others than that they came together
        clients = ["" if is_key(segment) else items[n].asker.client for n in at]
        group_N = np.zeros(len(items), np.int64)
        group_N[at] = [group_of(client, minute) for client in clients]
        new = Tally.of(served.title, *_chosen(codes, rows, at), group_N, served.num_concepts, tops)
        old = counted.tallies.get(segment)
        counted.tallies[segment] = new if old is None else old + new
    counted.unseen |= places.keys()


def _columns(
    served: Served, items: Sequence[_Waiting]
) -> tuple[dict[str, Codes], dict[str, np.ndarray]]:
    """Codes by stream, and which item each row is."""
    codes: dict[str, Codes] = {}
    rows: dict[str, np.ndarray] = {}
    for name in served.streams:
        at = [n for n, item in enumerate(items) if name in item.rows]
        own = [items[n].rows[name] for n in at]
        indices_NK = np.full((len(at), served.k), PAD, np.int32)
        values_NK = np.zeros((len(at), served.k), np.float32)
        for n, row in enumerate(own):
            indices_NK[n, : len(row.indices_K)] = row.indices_K
            values_NK[n, : len(row.values_K)] = row.values_K
        fvu_N = np.array([row.fvu for row in own], np.float32)
        codes[name] = Codes(indices_NK, values_NK, fvu_N)
        rows[name] = np.array(at, np.int64)
    return codes, rows


def _chosen(
    codes: Mapping[str, Codes], rows: Mapping[str, np.ndarray], at: Sequence[int]
) -> tuple[dict[str, Codes], dict[str, np.ndarray]]:
    """Of these items alone."""
    here = {name: np.isin(rows[name], at) for name in codes}
    return (
        {name: Codes(*(each[here[name]] for each in codes[name])) for name in codes},
        {name: rows[name][here[name]] for name in codes},
    )
