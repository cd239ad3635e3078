"""Judges on and on: all dictionaries, all segments, every few seconds; elects nobody."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from koine.errors import KoineError
from service.drift.figures import Figures
from service.drift.judging import Judging
from service.drift.records import Record
from service.drift.references import Watched

TICK_S = 2.0
"""How often it is looked whether a window has ended."""

log = logging.getLogger(__name__)


class Watching:
    """`run` it in an event loop, until it is cancelled."""

    def __init__(
        self,
        judging: Judging,
        figures: Figures,
        watched: Callable[[], Awaitable[Sequence[Watched]]],
        leads: Callable[[Sequence[str]], Awaitable[bool | None]],
    ) -> None:
        """`leads` says whether this process judges the dictionaries with these digests; None where
        that cannot be known now."""
        self._judging, self.figures = judging, figures
        self._watched, self._leads = watched, leads
        self._told = False
        self.beat = time.monotonic()
        """When the loop last went round."""
        self.well = False
        """Whether the last round had no error."""

    async def run(self) -> None:
        """One round after another."""
        while True:
            await self.round()
            await asyncio.sleep(TICK_S)

    async def round(self) -> None:
        """Judges what is due where this process leads; never raises but `CancelledError`."""
        self.beat = time.monotonic()
        try:
            well = await self._round()
        except (KoineError, OSError) as error:
            self._failed("windows wait to be judged: %s", error)
        except Exception:  # the edge of a task that nobody awaits: it must go on
            self._failed("an unforeseen error while judging")
            log.exception("an unforeseen error while judging")
        else:
            self.well, self._told = well, False

    async def _round(self) -> bool:
        watched = await self._watched()
        leads = await self._leads([each.digest for each in watched])
        self.figures.leader.set(float(leads is True))
        if leads is False:
            self.figures.show({})
        if not leads:
            return leads is False
        newest: dict[tuple[str, str], Record] = {}
        for each in watched:
            for segment in await self._judging.segments(each):
                self.beat = time.monotonic()
                records = await self._judging.judge(each, segment, time.time())
                if records:
                    newest[each.digest, segment] = records[-1]
        self.figures.show(newest)
        self.figures.runs.labels("ok").inc()
        self.figures.last_run.set(time.time())
        return True

    def _failed(self, message: str, *about: object) -> None:
        self.well = False
        self.figures.runs.labels("error").inc()
        if not self._told:
            log.warning(message, *about)
        self._told = True
