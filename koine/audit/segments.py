"""The files of one writer's log: a header line with the state before, then a line per entry.

A segment is named after its first sequence number. Its header holds the tree's frontier and the
chain's end as they were before, so that older segments can go and proofs still be made. Reads and
creates files; knows no policy.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from koine.audit.canonical import canonical, parsed
from koine.audit.entries import FORMAT
from koine.audit.merkle import ZERO, Frontier
from koine.errors import AuditError, RequestError, WriterBusyError

SUFFIX = ".jsonl"
LOCK = "lock"


class Header(NamedTuple):
    """The state before a segment's first entry."""

    writer: str
    frontier: Frontier
    head: bytes
    time: str
    """Of the entry ahead; empty for the first segment."""


class Line(NamedTuple):
    """One line of a segment after its header."""

    number: int
    """1 is the header's."""
    offset: int
    """Bytes before it."""
    raw: bytes
    """Without its newline."""
    whole: bool
    """Whether it ended with a newline."""


def segment_path(folder: Path, first: int) -> Path:
    """Where the segment that begins at this sequence number lies."""
    return folder / f"{first:016d}{SUFFIX}"


def segments_of(folder: Path) -> list[Path]:
    """A writer's segments, oldest first."""
    return sorted(p for p in folder.glob(f"*{SUFFIX}") if len(p.stem) == 16 and p.stem.isdigit())


def writers_of(root: Path) -> list[Path]:
    """The folders of a log's writers. Raises `RequestError` where there is no log."""
    if not root.is_dir():
        raise RequestError(f"{root} is no directory; give the one that holds the audit log")
    folders = [p for p in sorted(root.iterdir()) if p.is_dir() and segments_of(p)]
    if not folders:
        raise RequestError(f"{root} holds no audit log: no folder in it has segments")
    return folders


def create_segment(folder: Path, header: Header) -> Path:
    """Writes an empty segment that is either whole or not there, whatever happens meanwhile."""
    path = segment_path(folder, header.frontier.size)
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            file.write(header_line(header) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(folder)
    except OSError:
        # entries will go on in the segment before, so this one must not stand
        part.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise
    return path


def header_line(header: Header) -> bytes:
    """The header as a segment's first line, without the newline."""
    return canonical(
        {
            "format": FORMAT,
            "frontier": [node.hex() for node in header.frontier.nodes],
            "head": header.head.hex(),
            "size": header.frontier.size,
            "time": header.time,
            "writer": header.writer,
        }
    )


def read_header(path: Path, file: BinaryIO) -> Header:
    """The header of a segment that was just opened. Raises `AuditError` if it is damaged."""
    line = file.readline()
    try:
        data = cast("dict[str, Any]", parsed(line.removesuffix(b"\n")))
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']!r}; this Koine reads {FORMAT}")
        nodes = [bytes.fromhex(node) for node in data["frontier"]]
        frontier, head = Frontier(data["size"], nodes), bytes.fromhex(data["head"])
        if len(head) != len(ZERO) or segment_path(path.parent, frontier.size) != path:
            raise ValueError(f"it is that of the segment at {frontier.size}")
        header = Header(data["writer"], frontier, head, data["time"])
        if header_line(header) != line.removesuffix(b"\n"):
            raise ValueError("it is not spelled as a header is")
        return header
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditError(f"{path} line 1 is no header of a segment: {error}") from error


def lines(file: BinaryIO) -> Iterator[Line]:
    """The lines after the header, without holding more than one."""
    offset = file.tell()
    for number, raw in enumerate(file, start=2):
        whole = raw.endswith(b"\n")
        yield Line(number, offset, raw[:-1] if whole else raw, whole)
        offset += len(raw)


def lock_writer(folder: Path) -> int:
    """Makes this process the folder's only writer; the descriptor to close in the end.

    Raises `WriterBusyError` where another process is.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise WriterBusyError(
            f"{folder} is being written by another process; give each writer a name of its own"
        ) from None
    return descriptor


def sync_folder(folder: Path) -> None:
    """Makes new and renamed files of a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
