"""Judges each window of the traffic once it has ended, segment by segment; counts nothing.

Windows begin at multiples of their length since 1970, so that whoever judges them, and however
often that process was started anew, judges the same ones. The newest verdict is looked at again
with the next run: counts that came late change it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol

from koine.audit.events import DriftEvent
from koine.drift.alarm import Alarm
from koine.drift.segments import ALL
from koine.drift.words import sentence
from service.counting import Window, read_window
from service.counting.buckets import Buckets
from service.drift.history import History
from service.drift.records import (
    ALARM,
    Judged,
    Record,
    items_of,
    judged,
    record_bytes,
    record_digest,
    record_of,
)
from service.drift.references import References, Watched
from service.settings import Settings

LATE_EVERY_S, LATE_FOR_S = 30.0, 900.0
"""How often, and how long after it was due, it is looked whether more of a window came."""
MOST_NAMED = 1000
"""Changed concepts that an event of the audit log names."""


class Tell(Protocol):
    """Keeps events, all or none."""

    def __call__(self, *events: DriftEvent) -> Awaitable[None]: ...


log = logging.getLogger(__name__)


class _Looked(NamedTuple):
    start: int
    at: float


class Judging:
    """`judge` what is due, again and again."""

    def __init__(
        self, settings: Settings, buckets: Buckets, history: History, tell: Tell | None = None
    ) -> None:
        """`tell` is given the events of each verdict before the verdict is kept."""
        self._settings, self._buckets, self._history = settings, buckets, history
        self._tell = tell
        self._looked: dict[tuple[str, str], _Looked] = {}
        self.references = References(settings, history)

    async def segments(self, watched: Watched) -> list[str]:
        """All traffic, and those that are watched. Raises `OSError`."""
        return [ALL, *sorted(await self._buckets.segments(watched.digest))]

    async def judge(self, watched: Watched, segment: str, now: float) -> list[Record]:
        """Judges the windows of a segment that have ended; the records, the newest last.

        Raises `OSError` where Redis cannot be asked, `ArtifactError` for damaged counts,
        `AuditError` where a verdict must be told and cannot be.
        """
        kept = await self._history.latest(watched.digest, segment, ALARM.of)
        records = [record_of(content) for content in kept]
        for start in self._due(records, now):
            before = [one for one in records if one["from"] < start]
            known = records[-1] if len(before) < len(records) else None
            if not self._look(watched.digest, segment, start, now):
                continue
            window = await self._window(watched, segment, start)
            # of nothing, all traffic has a verdict: it shows that somebody looks
            if known is None and window.profile is None and segment != ALL:
                continue
            if known is not None and items_of(known) == _items(known, window):
                continue
            records = [*before, await self._judge(watched, segment, window, before)]
        return records[-ALARM.of :]

    def _look(self, digest: str, segment: str, start: int, now: float) -> bool:
        """Whether a window is read for the first time, or may have more by now: reading costs."""
        looked = self._looked.get((digest, segment))
        if looked is None or looked.start != start:
            self._looked[digest, segment] = _Looked(start, now)
            return True
        if now - looked.at < LATE_EVERY_S:
            return False
        self._looked[digest, segment] = _Looked(start, now)
        due = start + self._settings.drift_window_s + self._settings.drift_grace_s
        return now < due + LATE_FOR_S

    def _due(self, records: Sequence[Record], now: float) -> range:
        length = self._settings.drift_window_s
        end = int(now - self._settings.drift_grace_s) // length * length
        if not records:
            return range(end - length, end, length)
        oldest = int(now - self._settings.drift_keep_s) // length * length + length
        return range(max(records[-1]["from"], oldest), end, length)

    async def _window(self, watched: Watched, segment: str, start: int) -> Window:
        settings = self._settings
        end = start + settings.drift_window_s
        return await read_window(
            self._buckets, watched.digest, segment, start, end, settings.drift_bucket_s
        )

    async def _judge(
        self, watched: Watched, segment: str, window: Window, before: Sequence[Record]
    ) -> Record:
        reference = await self.references.of(watched, segment)
        new = await asyncio.to_thread(judged, watched, segment, window, reference, before)
        content = record_bytes(new.record)
        if self._tell is not None and window.profile is not None:
            await self._tell(*_events(new, record_digest(content)))
        if reference.source == "learning":
            await self.references.learn(watched, segment, window)
        await self._history.put(watched.digest, segment, window.start, content)
        _log(watched, new, segment)
        return new.record


def _items(known: Record, window: Window) -> dict[str, int]:
    found = dict.fromkeys(items_of(known), 0)
    if window.profile is not None:
        found |= {name: stream.items for name, stream in window.profile.streams.items()}
    return found


def _events(new: Judged, digest: str) -> list[DriftEvent]:
    record = new.record
    return [
        DriftEvent(
            dictionary=record["digest"],
            segment=record["segment"],
            stream=name,
            start=record["from"],
            end=record["to"],
            state=verdict.state,
            alarm=record["streams"][name]["alarm"],
            items=verdict.items,
            concepts=tuple(one.id for one in verdict.concepts[:MOST_NAMED]),
            report=digest,
        )
        for name, verdict in new.found.streams.items()
    ]


_LEVELS: dict[Alarm, int] = {
    "quiet": logging.DEBUG,
    "warning": logging.INFO,
    "alarm": logging.WARNING,
}


def _log(watched: Watched, new: Judged, segment: str) -> None:
    where = f" of {segment}" if segment else ""
    for name, verdict in new.found.streams.items():
        level = _LEVELS[new.record["streams"][name]["alarm"]]
        if verdict.state == "drift":
            says = sentence(verdict, watched.labels)
            log.log(max(level, logging.INFO), "drift%s in %s: %s", where, name, says)
