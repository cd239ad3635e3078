"""How an audit log is kept; reads no setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from koine.audit.checkpoints import NAME

Policy = Literal["fail_open", "fail_closed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditConfig:
    """How events are buffered, written, signed and in the end removed."""

    policy: Policy = "fail_closed"
    """`fail_closed`: what cannot be kept is refused, and `record` returns when it is on disk;
    `fail_open`: `record` returns at once, what cannot be kept is dropped, and the number dropped
    is in the log as soon as it can be written again."""
    buffer_events: int = 10_000
    """Events that wait to be written; more are refused or dropped."""
    wait_s: float = 5.0
    """How long `record` waits under `fail_closed`."""
    segment_bytes: int = 64 * 2**20
    """A segment that is as long is closed and signed."""
    segment_s: float = 86_400.0
    """So is one as old."""
    checkpoint_events: int = 10_000
    """A checkpoint is signed at the latest after so many entries,"""
    checkpoint_s: float = 60.0
    """or after so many seconds with any entry. What is changed later than that is found."""
    retention_days: float = 183.0
    """Signed segments whose last entry is older are removed; half a year, as the EU AI Act's
    articles 19 and 26 ask at least."""
    name: str = NAME
    """The log's name, first part of its checkpoints' origin."""

    def __post_init__(self) -> None:
        if self.policy not in ("fail_open", "fail_closed"):
            raise ValueError(f"`policy` is `fail_open` or `fail_closed`, got {self.policy!r}")
        for field in (
            "buffer_events", "wait_s", "segment_bytes", "segment_s", "checkpoint_events",
            "checkpoint_s", "retention_days",
        ):  # fmt: skip
            if not getattr(self, field) > 0:
                raise ValueError(f"`{field}` must be positive, got {getattr(self, field)}")
        if not self.name or any(c in self.name for c in "/+ \n"):
            raise ValueError(f"`name` holds no `/`, `+` or space, got {self.name!r}")
