"""The audit log as a service uses it: many threads record, one writes; knows no file format.

Events that arrive while the disk is busy go together in the next write (group commit). What
happens where the disk refuses is the policy's to say.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from koine.audit.checkpoints import Checkpoint, Signer
from koine.audit.config import AuditConfig
from koine.audit.events import Event, LogEvent
from koine.audit.journal import Journal, Receipt, Written, event_bytes
from koine.audit.sinks import Publisher, Sink
from koine.errors import AuditError

_LOG = logging.getLogger(__name__)


class AuditStats(NamedTuple):
    """How the log fares, for metrics."""

    size: int
    """Entries on disk."""
    buffered: int
    dropped: int
    """Events lost since it was opened; those refused under `fail_closed` not counted."""
    signed: int
    """Entries under the newest checkpoint."""
    unpublished: int
    """Times that a sink could not be reached."""


class _Waiting(NamedTuple):
    events: Sequence[bytes]
    written: Future[Written]


class AuditLog:
    """One writer's open log. Safe for many threads; close it in the end."""

    def __init__(
        self,
        root: Path,
        writer: str,
        config: AuditConfig | None = None,
        *,
        signer: Signer | None = None,
        sinks: Sequence[Sink] = (),
    ) -> None:
        """Opens `root/writer` and recovers it. Raises `AuditError` if it cannot be written on.

        Without `signer` nothing is signed, published or ever removed.
        """
        self.config = config or AuditConfig()
        self._journal = Journal(root, writer, self.config, signer)
        self._publisher = Publisher(sinks)
        self._published: Checkpoint | None = None
        self._buffer: list[_Waiting] = []
        self._buffered = 0
        self._dropped = self._untold = 0
        self._closing = self._closed = False
        self._changed = threading.Condition()
        self._next_checkpoint = time.monotonic() + self.config.checkpoint_s
        self._thread = threading.Thread(target=self._run, name="audit-writer", daemon=True)
        self._thread.start()

    def record(self, event: Event) -> Receipt | None:
        """Keeps an event, by policy.

        `fail_closed`: returns when it is on disk; raises `AuditError` if it is not within
        `wait_s`. `fail_open`: returns None at once.
        """
        if self.config.policy == "fail_open":
            self.submit([event_bytes(event)])
            return None
        until = time.monotonic() + self.config.wait_s
        written = self._enqueue([event_bytes(event)], self.config.wait_s)
        try:
            return written.result(max(0.0, until - time.monotonic())).receipt()
        except FutureTimeout:
            raise AuditError(
                f"the audit log's disk did not answer within {self.config.wait_s:g} s, so it is "
                "not known whether the event was kept; try again, or look at the disk"
            ) from None

    def submit(self, events: Sequence[bytes]) -> Future[Written]:
        """Keeps all of what `event_bytes` made, in order, or nothing of it; waits for nothing.

        The future has where they stand, or why they do not. A full buffer raises `AuditError`
        under `fail_closed`. More events than the buffer holds find room in an empty one.
        """
        return self._enqueue(events, 0.0)

    def stats(self) -> AuditStats:
        """How the log fares."""
        signed = self._journal.signed
        return AuditStats(
            self._journal.size,
            self._buffered,
            self._dropped,
            signed.size if signed else 0,
            self._publisher.failures,
        )

    def close(self) -> None:
        """Writes what waits, signs it, publishes that and lets go of the log."""
        with self._changed:
            if self._closed:
                return
            self._closing = self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._publisher.close()
        self._journal.close()

    def __enter__(self) -> AuditLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _enqueue(self, events: Sequence[bytes], wait_s: float) -> Future[Written]:
        waiting = _Waiting(events, Future())
        with self._changed:
            room = self._changed.wait_for(lambda: self._fits(len(events)) or self._closing, wait_s)
            if room and not self._closing:
                self._buffer.append(waiting)
                self._buffered += len(events)
                self._changed.notify_all()
                return waiting.written
            many = f"has {self._buffered:,} events waiting for the disk"
            why = "is closed" if self._closing else many
            return self._refused(waiting, f"the audit log {why}; try again later")

    def _fits(self, count: int) -> bool:
        return not self._buffer or self._buffered + count <= self.config.buffer_events

    def _refused(self, waiting: _Waiting, why: str) -> Future[Written]:
        """Ends events that are not kept: by raising, or by counting them as dropped."""
        if self.config.policy == "fail_open":
            self._dropped += len(waiting.events)
            self._untold += len(waiting.events)
            waiting.written.set_exception(AuditError(why))
            return waiting.written
        raise AuditError(why)

    def _run(self) -> None:
        try:
            self._write()
        except Exception:
            _LOG.exception("the audit log's thread ended; nothing is kept until a restart")
        finally:
            with self._changed:
                self._closing = True
                left = self._taken()
            for item in left:
                item.written.set_exception(AuditError("the audit log is closed; start it again"))

    def _write(self) -> None:
        ended = False
        while not ended:
            with self._changed:
                rest = max(0.0, self._next_checkpoint - time.monotonic())
                self._changed.wait_for(lambda: self._buffer or self._closing, rest)
                batch = self._taken()
                ended = self._closing
            if batch or (ended and self._untold):
                self._commit(batch)
            self._sign(ended)
            self._publish()

    def _taken(self) -> list[_Waiting]:
        """What waits; whoever waits for room is told. The lock is held."""
        taken, self._buffer, self._buffered = self._buffer, [], 0
        self._changed.notify_all()
        return taken

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        untold = self._untold
        events = [event_bytes(LogEvent(action="dropped", count=untold))] if untold else []
        at = len(events)
        for waiting in batch:
            events += waiting.events
        try:
            written = self._journal.commit(events)
        except (OSError, AuditError) as error:
            _LOG.error("the audit log cannot be written: %s", error)
            why = f"the event was not kept: {error}; free or mend the audit log's disk"
            if self.config.policy == "fail_open":
                with self._changed:
                    self._dropped += len(events) - at
                    self._untold += len(events) - at
            for waiting in batch:
                waiting.written.set_exception(AuditError(why))
            return
        with self._changed:
            self._untold -= untold
        for waiting in batch:
            waiting.written.set_result(written.part(at, len(waiting.events)))
            at += len(waiting.events)

    def _sign(self, ended: bool) -> None:
        signed = self._journal.signed
        new = self._journal.size - (signed.size if signed else 0)
        late = time.monotonic() >= self._next_checkpoint
        if not (ended or late or new >= self.config.checkpoint_events):
            return
        self._next_checkpoint = time.monotonic() + self.config.checkpoint_s
        try:
            self._journal.checkpoint()
        except OSError as error:
            _LOG.error("the audit log cannot be signed: %s", error)

    def _publish(self) -> None:
        """Sends the newest checkpoint, be it of a rotation or of its time."""
        signed = self._journal.signed
        if signed is not None and signed is not self._published:
            self._published = signed
            self._publisher.send(signed)
