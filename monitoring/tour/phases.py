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
MOST_WINDOWS = 15
"""Beyond the quiet ones, in which a phase must come to its end."""
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
    draw: Callable[[str], None]
    """Draws the dashboards, under a name, while traffic goes on."""
    quiet_windows: int
    """With a verdict, ahead of the drift: segments learn what is usual there."""

    async def run(self) -> bool:
        """Whether the alert rang, and ended. Raises `ServiceUnavailableError`."""
        judged = Judged(self.stack, self.tell)
        self.tell(f"quiet traffic until {self.quiet_windows} windows have a verdict")
        if not await self._traffic(QUIET, judged, lambda count: count >= self.quiet_windows):
            self.tell("too few of them came: is the service too slow for this rate?")
            return False
        if self._rings():
            self.tell("the alert rings in quiet traffic: is the corpus what the artifact learnt?")
            return False
        self.tell("drift until the alert rings")
        rang = await self._traffic(self.drift, judged, lambda _: self._rings(), "ringing")
        self.tell("quiet traffic until it ends")
        ended = await self._traffic(QUIET, judged, lambda _: not self._rings(), "ended")
        return rang and ended

    def _rings(self) -> bool:
        return self.receiver.rings(ALERT)

    async def _traffic(
        self,
        drift: Drift,
        judged: Judged,
        done: Callable[[int], bool],
        picture: str | None = None,
    ) -> bool:
        """Sends until it is `done` with so many verdicts, then draws; whether it came in time."""
        plan = replace(self.plan, drift=drift, seconds=ENDLESS_S)
        stop = asyncio.Event()
        replay = Replay(self.stack.service, self.corpus, plan, self.degraded)
        sending = asyncio.create_task(replay.run(stop=stop))
        began, verdicts, window_s = time.monotonic(), 0, self.stack.windows.window_s
        most_s = (self.quiet_windows + MOST_WINDOWS) * window_s + 30
        try:
            while not (over := done(verdicts)) and time.monotonic() < began + most_s:
                if sending.done():
                    break
                await asyncio.sleep(1)
                verdicts += await judged.look()
            took_s = time.monotonic() - began
            if picture is not None:
                await asyncio.to_thread(self.draw, picture)
        finally:
            stop.set()
            sent = await sending
        if not sent.items:
            raise ServiceUnavailableError(f"the service answered nothing: {sent}")
        self.tell(f"    after {took_s:.0f} s ({took_s / window_s:.1f} windows); {sent}")
        return over


class Judged:
    """Windows as the drift worker judges them, each told once."""

    def __init__(self, stack: Stack, tell: Tell) -> None:
        self._stack, self._tell, self._until = stack, tell, 0

    async def look(self) -> bool:
        """Whether a window is new, and has a verdict; not all streams must be sent anything."""
        says = await verdict(self._stack.service, self._stack.windows.window_s)
        newest = next(iter(says.get("history", ())), None)
        if newest is None or newest["to"] <= self._until:
            return False
        self._until = int(newest["to"])
        self._tell(f"    window of {time.strftime('%H:%M:%S', time.localtime(newest['from']))}:")
        for stream, one in newest["streams"].items():
            self._tell(f"      {stream}: {one['state']} ({one['alarm']}); {one['says']}")
        return any(one["state"] in ("ok", "drift") for one in newest["streams"].values())
