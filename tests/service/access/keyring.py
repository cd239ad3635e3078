"""Keys files for tests, and clocks that stand until they are moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from service.access.access import Access
from service.access.keyfile import add_key, new_entry


def add(path: Path, name: str, *scopes: str, **limits: Any) -> str:
    """Adds a key to a file; its secret."""
    secret, entry = new_entry(name, list(scopes or ("encode", "read")), **limits)
    add_key(path, entry)
    return secret


class Clock:
    """Seconds, and the date that they lead to, as the test says."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


def access_of(path: Path | None, clock: Clock | None = None, **more: Any) -> Access:
    """An `Access` by a clock of its own."""
    clock = clock or Clock()
    return Access(path, clock=clock, now=clock.now, **more)
