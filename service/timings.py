"""Where a request's time went, as its client is told; measures nothing itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(slots=True)
class Timings:
    """Seconds in each stage; of a request, those of its slowest item."""

    read: float = 0.0
    """Parsing the request, after its last byte had come."""
    decode: float = 0.0
    """Decoding and preprocessing images, tokenizing texts."""
    queue: float = 0.0
    """Waiting for a forward pass."""
    forward: float = 0.0
    """In forward passes, whatever shared them."""
    total: float = 0.0
    """From the first byte to the answer."""

    @property
    def waited(self) -> float:
        """Seconds from the reading to the codes."""
        return self.decode + self.queue + self.forward

    def add_slowest(self, others: Iterable[Timings]) -> None:
        """Adds what the slowest of `others` spent in its stages, so that stages add up."""
        slowest = max(others, key=lambda other: other.waited, default=Timings())
        self.decode += slowest.decode
        self.queue += slowest.queue
        self.forward += slowest.forward

    def header(self) -> str:
        """As the value of HTTP's `Server-Timing`, in milliseconds."""
        return ", ".join(
            f"{field.name};dur={getattr(self, field.name) * 1000:.2f}" for field in fields(self)
        )
