"""Whose turn it is where queues are full: what is refused waits for it, and most is let in then.

A refused request costs as much as a tenth of an answered one, and comes again: hundreds a second
of them take half of the goodput from what has been let in, most of all from clients that ignore
`Retry-After`. One connection has one request under way: whoever waits asks less often.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from koine.errors import OverloadedError

AT_ONCE_PER_S = 50.0
"""So many refusals a second are told at once, for clients and balancers that go elsewhere."""
LONGEST_S = 2.0
"""The others wait until it is time to send the request again, at most for this long."""
SHORTEST_S = 0.01
"""Between two tries of a request."""


class Admission:
    """One dictionary's, over all transports."""

    def __init__(self) -> None:
        self._at_once = AT_ONCE_PER_S
        self._since = time.monotonic()

    async def when_room(self, take: Callable[[float], None], within_s: float = math.inf) -> float:
        """Seconds until `take`, given those that are left of `within_s`, raised nothing.

        Raises the `OverloadedError` of `take` where it is told at once, where its turn would come
        too late for the client, or where it has waited as long as any may.
        """
        start = time.monotonic()
        waited_s = 0.0
        while True:
            try:
                take(within_s - waited_s)
            except OverloadedError as refused:
                if not waited_s and self._told_at_once():
                    raise
                left_s = LONGEST_S - waited_s
                if min(refused.retry_after_s, left_s) >= within_s - waited_s:
                    raise
                if refused.retry_after_s >= left_s:
                    await asyncio.sleep(left_s)
                    refused.retry_after_s -= left_s
                    raise
                await asyncio.sleep(max(refused.retry_after_s, SHORTEST_S))
                waited_s = time.monotonic() - start
            else:
                return waited_s

    def _told_at_once(self) -> bool:
        now = time.monotonic()
        self._at_once = min(AT_ONCE_PER_S, self._at_once + (now - self._since) * AT_ONCE_PER_S)
        self._since = now
        told = self._at_once >= 1
        self._at_once -= told
        return told
