"""What a check of the log found, each fault with its place; finds nothing itself."""

from __future__ import annotations

from typing import Literal, NamedTuple

FaultKind = Literal[
    "entry",  # a line that is no entry, or not in its one spelling
    "chain",  # an entry that does not follow the one ahead
    "gap",  # entries or segments that are missing
    "order",  # entries that stand out of their order, twice, or under another's name
    "segment",  # a header that does not fit
    "checkpoint",  # a checkpoint that is damaged, unsigned or replaced
    "root",  # entries that are not those that were signed
    "truncation",  # fewer entries than were signed
    "removal",  # entries that went without a tombstone
]
MOST = 100
"""Faults told of one writer; the rest is counted."""


class Fault(NamedTuple):
    """Something that is not as it was written."""

    kind: FaultKind
    place: str
    """Writer or file, and the line, entry or checkpoint in it."""
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what} [{self.kind}]"


class Checked(NamedTuple):
    """What a check of one writer's log found."""

    writer: str
    base: int
    """Entries removed after their retention."""
    size: int
    signed: int
    """Entries under the newest checkpoint that holds."""
    checkpoints: int
    published: int
    """Published checkpoints that were compared."""
    faults: tuple[Fault, ...]
    more: int
    """Faults beyond those told."""
    notes: tuple[str, ...]
    """What is no fault, yet should be known."""


class Faults:
    """Collects faults, the first hundred in full."""

    def __init__(self) -> None:
        self.found: list[Fault] = []
        self.more = 0

    def add(self, kind: FaultKind, place: str, what: str) -> None:
        """Notes a fault."""
        if len(self.found) < MOST:
            self.found.append(Fault(kind, place, what))
        else:
            self.more += 1
