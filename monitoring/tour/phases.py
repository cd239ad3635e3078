"""Quiet traffic, traffic that drifts until it rings, quiet traffic until that ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from koine.errors import ServiceUnavailableError
from monitoring.replay.corpus import Corpus
from monitoring.replay.drifts import QUIET, Degraded, Drift
from monitoring.replay.sender import Plan, Replay, verdict
from monitoring.tour.receiver import Receiver
from monitoring.tour.stack import Stack

ALERT = "KoineConceptDrift"
MOST_WINDOWS = 10
"""In which the alarm must ring, and as many in which it must end."""
ENDLESS_S = 1e9

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Phases:
    """`run` them against a stack that has started."""

    stack: Stack
    corpus: Corpus
    plan: Plan
    """Rate, batch and segments of all of them."""
    drift: Drift
    degraded: Degraded | None
    receiver: Receiver
    tell: Tell
    quiet_windows: int
    """Ahead of the drift: they have verdicts, and segments learn what is usual."""

    async def run(self) -> bool:
        """Whether the alert rang, and ended. Raises `ServiceUnavailableError`."""
        window_s = self.stack.windows.window_s
        self.tell(f"quiet traffic for {self.quiet_windows} windows")
        await self._traffic(QUIET, self.quiet_windows * window_s, lambda: False)
        most_s = MOST_WINDOWS * window_s + 30
        self.tell(f"drift until the alert rings, {most_s} s at most")
        rang = await self._traffic(self.drift, most_s, lambda: self.receiver.open(ALERT))
        self.tell(f"quiet traffic until it ends, {most_s} s at most")
        ended = await self._traffic(QUIET, most_s, lambda: not self.receiver.open(ALERT))
        return rang and ended

    async def _traffic(self, drift: Drift, seconds: float, done: Callable[[], bool]) -> bool:
        """Sends until it is done; whether that came before the time was over."""
        plan = replace(self.plan, drift=drift, seconds=ENDLESS_S)
        stop = asyncio.Event()
        replay = Replay(self.stack.service, self.corpus, plan, self.degraded)
        sending = asyncio.create_task(replay.run(stop=stop))
        deadline = time.monotonic() + seconds
        judged = 0
        try:
            while not (over := done()) and time.monotonic() < deadline:
                if sending.done():
                    break
                await asyncio.sleep(1)
                judged = await self._tell_verdict(judged)
        finally:
            stop.set()
            sent = await sending
        if not sent.items:
            raise ServiceUnavailableError(f"the service answered nothing: {sent}")
        self.tell(f"    {sent}")
        return over

    async def _tell_verdict(self, known: int) -> int:
        """Says what the newest window was found to be, once; when it ended."""
        says = await verdict(self.stack.service, self.stack.windows.window_s)
        newest = next(iter(says.get("history", ())), None)
        if newest is None or newest["to"] <= known:
            return known
        self.tell(f"    window of {time.strftime('%H:%M:%S', time.localtime(newest['from']))}:")
        for stream, one in newest["streams"].items():
            self.tell(f"      {stream}: {one['state']} ({one['alarm']}); {one['says']}")
        return int(newest["to"])
