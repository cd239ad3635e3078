"""One writer's log on disk: appends batches of entries, signs and rotates; owned by one thread.

A batch is on disk when `commit` returns: one write and one fsync for all of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from koine.audit.canonical import canonical
from koine.audit.checkpoints import (
    CHECKPOINTS,
    Checkpoint,
    Signer,
    line_of,
    make_checkpoint,
    read_checkpoints,
)
from koine.audit.config import AuditConfig
from koine.audit.entries import WRITER, chained, now
from koine.audit.events import Event, LogEvent
from koine.audit.merkle import ZERO
from koine.audit.recovery import State, recover
from koine.audit.segments import Header, create_segment, lock_writer, read_header, segments_of
from koine.errors import AuditError


class Receipt(NamedTuple):
    """Where an event stands; kept elsewhere, it proves that the event was in the log."""

    writer: str
    sequence: int
    hash: str


class Written(NamedTuple):
    """Where events that were written together stand."""

    writer: str
    first: int
    hashes: list[bytes]

    def receipt(self, number: int = 0) -> Receipt:
        """Of one of them, by its place in what was written."""
        return Receipt(self.writer, self.first + number, self.hashes[number].hex())

    def part(self, start: int, count: int) -> Written:
        """Some of them."""
        return Written(self.writer, self.first + start, self.hashes[start : start + count])


def event_bytes(event: Event) -> bytes:
    """The event as its entry will hold it. Raises `AuditError` for what has no one spelling."""
    return canonical(event.model_dump(mode="json", exclude_none=True))


class Journal:
    """The open end of a writer's log. Not safe for several threads."""

    def __init__(
        self, root: Path, writer: str, config: AuditConfig, signer: Signer | None = None
    ) -> None:
        """Opens the log at `root/writer`, or begins it, and cuts an unfinished write.

        Raises `AuditError` where another process writes it or it is damaged.
        """
        if not WRITER.fullmatch(writer):
            raise AuditError(f"writer {writer!r}: use letters, digits, `.`, `_` and `-` (max. 64)")
        self.writer, self._config, self._signer = writer, config, signer
        self._folder = root / writer
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_writer(self._folder)
        self._broken: str | None = None
        try:
            state = recover(self._folder, writer)
            self._frontier, self._head, self._time = state.frontier, state.head, state.time
            self._last = state.checkpoint
            self._opened(state.segment, state.end, state.began)
            self._unlink_before(state.removed)
            self._append(_openings(state))
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def size(self) -> int:
        """Entries so far."""
        return self._frontier.size

    @property
    def signed(self) -> Checkpoint | None:
        """The newest checkpoint."""
        return self._last

    def commit(self, events: Sequence[bytes]) -> Written:
        """Appends what `event_bytes` made, in order, and waits for the disk.

        Raises `OSError` where it refused: then nothing of the batch is in the log. Raises
        `AuditError` where the disk can no longer be trusted.
        """
        if self._end >= self._config.segment_bytes or self._age_s() >= self._config.segment_s:
            self._rotate()
        return self._append(events)

    def checkpoint(self) -> Checkpoint | None:
        """Signs what is there, if anything is new and there is a key."""
        if self._signer is None or self.size == (self._last.size if self._last else 0):
            return None
        made = make_checkpoint(
            self._signer,
            f"{self._config.name}/{self.writer}",
            self.size,
            self._frontier.root(),
            self._head,
            self._last.digest if self._last else ZERO,
            now(),
        )
        with (self._folder / CHECKPOINTS).open("ab", buffering=0) as file:
            end = file.tell()
            try:
                _write(file.fileno(), line_of(made))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise
        self._last = made
        return made

    def close(self) -> None:
        """Gives the log to whoever writes next."""
        os.close(self._file)
        os.close(self._lock)

    def _opened(self, segment: Path, end: int, began: str) -> None:
        self._file = os.open(segment, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._end, self._began = end, began

    def _age_s(self) -> float:
        return (datetime.now(UTC) - datetime.fromisoformat(self._began)).total_seconds()

    def _append(self, events: Sequence[bytes]) -> Written:
        if self._broken is not None:
            raise AuditError(
                f"the disk under {self._folder} failed ({self._broken}); what it holds is not "
                "known. Mend it, then start again: the log recovers"
            )
        first = self.size
        # a clock that was set back must not make time run backwards in the log
        time = max(now(), self._time)
        written, hashes = chained(events, self.writer, first, time, self._head)
        self._to_disk(b"\n".join([*written, b""]))
        self._frontier.extend(hashes)
        self._head, self._time = hashes[-1] if hashes else self._head, time
        return Written(self.writer, first, hashes)

    def _to_disk(self, content: bytes) -> None:
        try:
            _write(self._file, content)
        except OSError:
            self._cut_back()
            raise
        try:
            os.fdatasync(self._file)
        except OSError as error:
            # after a failed fsync the kernel may call dirty pages clean: nothing can be known
            self._broken = str(error)
            raise
        self._end += len(content)

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._file, self._end)
        except OSError as error:
            self._broken = str(error)

    def _rotate(self) -> None:
        self.checkpoint()
        header = Header(self.writer, self._frontier.copy(), self._head, self._time)
        path = create_segment(self._folder, header)
        os.close(self._file)
        self._opened(path, path.stat().st_size, now())
        self._retain()

    def _retain(self) -> None:
        """Removes whole signed segments past their time, and says so in the log first."""
        oldest = datetime.now(UTC) - timedelta(days=self._config.retention_days)
        headers = [_header(path) for path in segments_of(self._folder)]
        past = [h for h in headers[1:] if datetime.fromisoformat(h.time) < oldest]
        if not past or not (self._folder / CHECKPOINTS).exists():
            return
        signed = {c.size for c in read_checkpoints(self._folder / CHECKPOINTS)}
        past = [h for h in past if h.frontier.size in signed]
        if past:
            through = past[-1].frontier
            gone = LogEvent(
                action="removed",
                count=through.size - headers[0].frontier.size,
                digest=through.root().hex(),
                through=through.size,
            )
            self._append([event_bytes(gone)])
            self._unlink_before(through.size)

    def _unlink_before(self, through: int) -> None:
        for path in segments_of(self._folder):
            if int(path.stem) < through:
                path.unlink()


def _openings(state: State) -> list[bytes]:
    events: list[LogEvent] = []
    if state.cut is not None:
        events.append(LogEvent(action="recovered", count=state.cut.bytes, digest=state.cut.digest))
    return [event_bytes(event) for event in [*events, LogEvent(action="opened")]]


def _header(path: Path) -> Header:
    with path.open("rb") as file:
        return read_header(path, file)


def _write(file: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]
