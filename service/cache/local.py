"""Records in this process: least recently used out first, bounded in bytes; knows no codes."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

ENTRY_BYTES = 400
"""What Python needs for an entry beside its record's own bytes, rounded up (a test measures it)."""


class _Entry(NamedTuple):
    record: bytes
    expires: float


class LocalTier:
    """At most `max_bytes` of records, each at most `ttl_s` old."""

    def __init__(
        self, max_bytes: int, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes, self._ttl_s, self._clock = max_bytes, ttl_s, clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self.bytes = 0
        """What the entries take, `ENTRY_BYTES` each included."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> bytes | None:
        """The record, which is the most recently used from now on; None where there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires <= self._clock():
            self.drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.record

    def put(self, key: bytes, record: bytes) -> None:
        """Keeps a record in place of an older one; one beyond the whole bound is not kept."""
        self.drop(key)
        size = len(record) + ENTRY_BYTES
        if size > self._max_bytes:
            return
        while self.bytes + size > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self.bytes -= len(oldest.record) + ENTRY_BYTES
        self._entries[key] = _Entry(record, self._clock() + self._ttl_s)
        self.bytes += size

    def drop(self, key: bytes) -> None:
        """Forgets a record, if there is one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= len(entry.record) + ENTRY_BYTES
