"""What came back for one request, and whether it tells the client what to do next."""

from __future__ import annotations

from typing import Literal, NamedTuple

Fault = Literal["refused", "reset", "cut", "timeout", "unreadable"]
"""`refused`: no connection; `reset`: closed before a byte of the answer; `cut`: closed within the
answer, which its length gives away; `unreadable`: bytes that are no HTTP."""
RETRYABLE = (429, 503, 504)


class Reply(NamedTuple):
    """An answer, or why there is none."""

    status: int
    """As HTTP has it; 0 where nothing whole came back."""
    body: bytes
    retry_after_s: float | None = None
    problem: bool = False
    """Whether an error is told in the service's own form."""
    fault: Fault | None = None

    @property
    def good(self) -> bool:
        """Whether there are results."""
        return self.status == 200

    @property
    def retryable(self) -> bool:
        """Whether the service says: send it again."""
        return self.status in RETRYABLE

    @property
    def told(self) -> bool:
        """Whether an error says if sending again helps: by its status, and when by Retry-After."""
        if self.retryable:
            return self.problem and (self.retry_after_s is not None or self.status == 504)
        return self.problem and self.status >= 400
