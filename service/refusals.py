"""Answers refusals at the pace that leaves the service its time for what it has let in.

A client that sends again at once, whatever `Retry-After` says, costs the service a whole request
for nothing, and hundreds of them half of its goodput. One connection has one request under way:
whoever is answered later asks less often.
"""

from __future__ import annotations

import asyncio
import math
import time

from koine.errors import OverloadedError

AT_ONCE_PER_S = 50.0
"""So many refusals a second are answered at once, for clients and balancers that go elsewhere."""
LONGEST_S = 2.0
"""Others are held until it is time to send the request again, at most for this long."""


class Refusals:
    """One process's, over all transports."""

    def __init__(self) -> None:
        self._free = AT_ONCE_PER_S
        self._at = time.monotonic()

    async def hold(self, error: OverloadedError, within_s: float = math.inf) -> None:
        """Returns when the refusal may be told, its `retry_after_s` less by the time it took.

        A client that would have left `within_s` seconds from now is told at once.
        """
        now = time.monotonic()
        self._free = min(AT_ONCE_PER_S, self._free + (now - self._at) * AT_ONCE_PER_S)
        self._at = now
        if self._free >= 1:
            self._free -= 1
            return
        held_s = min(error.retry_after_s, LONGEST_S)
        if held_s >= within_s:
            return
        await asyncio.sleep(held_s)
        error.retry_after_s -= held_s
