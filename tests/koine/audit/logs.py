"""Small logs to damage, and what reads them."""

from __future__ import annotations

from pathlib import Path

from koine.audit.checkpoints import Checkpoint, read_checkpoints
from koine.audit.config import AuditConfig
from koine.audit.events import ActiveConcept, EncodeEvent, content_digest
from koine.audit.faults import Checked, Fault
from koine.audit.log import AuditLog
from koine.audit.segments import segments_of
from koine.audit.signing import SigningKey, read_signing_key, write_new_key
from koine.audit.sinks import FileSink
from koine.audit.verify import verify_log

DICTIONARY = "d" * 64


def encoded(number: int) -> EncodeEvent:
    """An event that differs from that of every other number."""
    return EncodeEvent(
        content={"image": content_digest(str(number).encode())},
        dictionary=DICTIONARY,
        codes={"clip_image": (ActiveConcept(concept=number, micros=1_500_000),)},
        key="key-1",
        latency_us=1000 + number,
        outcome="ok",
        trace="0" * 32,
    )


def signing_key(folder: Path) -> SigningKey:
    """The key at `folder/key`, made where there is none."""
    path = folder / "key"
    return read_signing_key(path) if path.exists() else write_new_key(path)


def write_log(folder: Path, events: int = 20, *, each: int = 5, segment_bytes: int = 4000) -> Path:
    """A closed log of one writer with several segments and checkpoints, also published."""
    config = AuditConfig(segment_bytes=segment_bytes, checkpoint_events=each)
    root = folder / "log"
    sink = FileSink(folder / "published.jsonl")
    with AuditLog(root, "w0", config, signer=signing_key(folder), sinks=[sink]) as log:
        for number in range(events):
            log.record(encoded(number))
    return root


def published(folder: Path) -> list[Checkpoint]:
    """What the sink got."""
    path = folder / "published.jsonl"
    return list(read_checkpoints(path)) if path.exists() else []


def check(folder: Path, *, compare: bool = True) -> Checked:
    """The only writer's check."""
    known = published(folder) if compare else []
    (checked,) = verify_log(folder / "log", signing_key(folder).public, known)
    return checked


def faults(folder: Path, *, compare: bool = True) -> list[Fault]:
    """What a check finds."""
    return list(check(folder, compare=compare).faults)


def entry_lines(root: Path) -> list[tuple[Path, int]]:
    """Every entry of the only writer: its file and line index, in order."""
    return [
        (path, index)
        for path in segments_of(root / "w0")
        for index in range(1, len(path.read_bytes().splitlines()))
    ]
