"""Where a writer's log stood when its process ended, however it ended; appends nothing.

A process that is killed, or a machine that loses power, leaves at most one unfinished write at the
end of the last segment. That is cut. Anything else that is wrong was done to the log, and it is
not written on until a person has looked.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from pathlib import Path
from typing import NamedTuple

from koine.audit.checkpoints import CHECKPOINTS, Checkpoint, read_checkpoints
from koine.audit.entries import Entry, now, read_entry
from koine.audit.merkle import ZERO, Frontier
from koine.audit.segments import (
    Header,
    Line,
    create_segment,
    lines,
    read_header,
    segments_of,
)
from koine.errors import AuditError


class Cut(NamedTuple):
    """An unfinished write that was taken off."""

    bytes: int
    digest: str
    """SHA-256 of them."""


class State(NamedTuple):
    """All that is needed to write on."""

    segment: Path
    began: str
    """Time of the entry ahead of the segment."""
    frontier: Frontier
    head: bytes
    time: str
    end: int
    """Bytes of the segment that hold."""
    checkpoint: Checkpoint | None
    cut: Cut | None
    removed: int
    """Entries before this one were to be removed."""


def recover(folder: Path, writer: str) -> State:
    """Finds the end of the log, cuts an unfinished write there and syncs it.

    Raises `AuditError` where entries that were acknowledged are damaged or missing.
    """
    for part in folder.glob("*.part"):
        part.unlink()
    checkpoint = _last_checkpoint(folder / CHECKPOINTS)
    segments = segments_of(folder)
    if not segments:
        if checkpoint is not None:
            raise AuditError(
                f"{folder} holds checkpoints but no segments: its entries were removed. Run "
                "`python -m koine audit verify`, and give a writer that goes on a new name"
            )
        path = create_segment(folder, Header(writer, Frontier(), ZERO, now()))
        segments = [path]
    state = _read(segments[-1], writer, checkpoint)
    if checkpoint is not None and checkpoint.size > state.frontier.size:
        raise AuditError(
            f"{segments[-1]} ends after {state.frontier.size} entries, but {checkpoint.size} were "
            "signed: entries were removed. Run `python -m koine audit verify`"
        )
    return state


def _last_checkpoint(path: Path) -> Checkpoint | None:
    """The newest checkpoint, after an unfinished one has been cut."""
    if not path.exists():
        return None
    newest = deque(read_checkpoints(path), maxlen=1)
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
        os.fsync(file.fileno())
    return newest[0] if newest else None


def _read(path: Path, writer: str, checkpoint: Checkpoint | None) -> State:
    with path.open("rb+") as file:
        header = read_header(path, file)
        if header.writer != writer:
            raise AuditError(f"{path} is of writer {header.writer!r}, not {writer!r}")
        frontier, head, time, removed = header.frontier, header.head, header.time, 0
        end, cut = file.tell(), None
        for line in lines(file):
            entry = _entry(line, writer, frontier.size, head)
            if entry is None:
                file.seek(end)
                cut = _cut(path, line, file.read())
                break
            frontier.append(entry.hash)
            head, time, end = entry.hash, entry.time, line.offset + len(line.raw) + 1
            if entry.event.get("action") == "removed":
                removed = max(removed, int(entry.event.get("through", 0)))
            if checkpoint is not None and checkpoint.size == frontier.size:
                _same_root(path, checkpoint, frontier)
        if cut is not None:
            file.truncate(end)
        # what the kill left in the page cache was never acknowledged, but will be built upon
        os.fsync(file.fileno())
    return State(path, header.time, frontier, head, time, end, checkpoint, cut, removed)


def _entry(line: Line, writer: str, sequence: int, head: bytes) -> Entry | None:
    """The entry if it is the one expected here."""
    if not line.whole:
        return None
    try:
        entry = read_entry(line.raw)
    except ValueError:
        return None
    expected = (writer, sequence, head.hex())
    return entry if (entry.writer, entry.sequence, entry.previous) == expected else None


def _cut(path: Path, first: Line, tail: bytes) -> Cut:
    """The tail, if it can be an unfinished write. Raises `AuditError` if it cannot."""
    for raw in tail.split(b"\n"):
        try:
            entry = read_entry(raw)
        except ValueError:
            continue
        raise AuditError(
            f"{path} line {first.number} is damaged, yet entry {entry.sequence} follows: this is "
            "no unfinished write. Run `python -m koine audit verify`; a writer that goes on needs "
            "a new name"
        )
    return Cut(len(tail), hashlib.sha256(tail).hexdigest())


def _same_root(path: Path, checkpoint: Checkpoint, frontier: Frontier) -> None:
    if checkpoint.root != frontier.root():
        raise AuditError(
            f"{path} does not have the root that was signed at {checkpoint.size} entries: "
            "entries were changed. Run `python -m koine audit verify`"
        )
