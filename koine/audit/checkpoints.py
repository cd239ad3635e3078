"""Checkpoints: the state of one writer's log as a C2SP signed note; signs and verifies nothing.

    koine-audit/worker-0              origin: log and writer
    1234                              entries
    <base64>                          root of the tree over them
    head <hex>                        hash of the last entry
    previous <hex>                    SHA-256 of the checkpoint before, zeros for the first
    time 2026-11-27T12:00:00.000000Z

    — koine-audit <base64>            four bytes that name the key, then Ed25519's signature

The first three lines are C2SP's tlog-checkpoint, the next three its extension lines: witnesses
and other tools that read signed notes read these too (c2sp.org/tlog-checkpoint, signed-note).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from koine.errors import AuditError

CHECKPOINTS = "checkpoints.jsonl"
"""A writer's own checkpoints, one JSON string a line, oldest first."""
NAME = "koine-audit"
"""The log's name where none is given; origins and signatures carry it."""

_NOTE = re.compile(
    r"(?P<origin>[^\n/ +]+/[^\n/ ]+)\n(?P<size>\d{1,16})\n(?P<root>[A-Za-z0-9+/=]{44})\n"
    r"head (?P<head>[0-9a-f]{64})\nprevious (?P<previous>[0-9a-f]{64})\ntime (?P<time>\S+)\n"
    r"\n— (?P<name>[^\n +]+) (?P<signature>[A-Za-z0-9+/=]+)\n"
)


@runtime_checkable
class Signer(Protocol):
    """What signs checkpoints: `koine.audit.signing.SigningKey`, or a hardware module."""

    @property
    def name(self) -> str:
        """The name that signatures carry."""
        ...

    def sign(self, text: bytes) -> bytes:
        """Four bytes that name the key, then the signature."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A signed claim: this many entries of this writer have this root."""

    origin: str
    size: int
    root: bytes
    head: bytes
    previous: bytes
    time: str
    name: str
    """Whose signature it is."""
    signature: bytes
    note: str
    """All of it, as signed and published."""

    @property
    def writer(self) -> str:
        """The writer within the log."""
        return self.origin.partition("/")[2]

    @property
    def text(self) -> bytes:
        """What the signature is over."""
        return (self.note.partition("\n\n")[0] + "\n").encode()

    @property
    def digest(self) -> bytes:
        """What the next checkpoint names as `previous`."""
        return hashlib.sha256(self.note.encode()).digest()


def make_checkpoint(
    signer: Signer, origin: str, size: int, root: bytes, head: bytes, previous: bytes, time: str
) -> Checkpoint:
    """Signs the state of a writer's log."""
    text = (
        f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        f"head {head.hex()}\nprevious {previous.hex()}\ntime {time}\n"
    )
    signature = base64.b64encode(signer.sign(text.encode())).decode()
    return parse_checkpoint(f"{text}\n— {signer.name} {signature}\n")


def parse_checkpoint(note: str) -> Checkpoint:
    """The checkpoint that a note holds. Raises `AuditError` for any other text."""
    match = _NOTE.fullmatch(note)
    if match is None:
        raise AuditError(f"this is no checkpoint of an audit log: {note[:80]!r}")
    try:
        root = base64.b64decode(match["root"], validate=True)
        signature = base64.b64decode(match["signature"], validate=True)
    except binascii.Error as error:
        raise AuditError(f"a checkpoint of {match['origin']} holds no base64: {error}") from error
    return Checkpoint(
        origin=match["origin"],
        size=int(match["size"]),
        root=root,
        head=bytes.fromhex(match["head"]),
        previous=bytes.fromhex(match["previous"]),
        time=match["time"],
        name=match["name"],
        signature=signature,
        note=note,
    )


def line_of(checkpoint: Checkpoint) -> bytes:
    """The line that stands for it in a file of checkpoints."""
    return json.dumps(checkpoint.note, ensure_ascii=False).encode() + b"\n"


def read_checkpoints(path: Path) -> Iterator[Checkpoint]:
    """The checkpoints of a file, oldest first; an unfinished last line is left out.

    Raises `AuditError` for a line that holds none, with its number.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                note = json.loads(line)
            except ValueError:
                note = line.decode("utf-8", "replace")
            try:
                yield parse_checkpoint(str(note))
            except AuditError as error:
                raise AuditError(f"{path} line {number}: {error}") from error
