"""Drift as a serving process has it: answers, and without Redis the judging too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from prometheus_client.exposition import generate_latest

from koine.errors import NotReadyError
from service.audit import Audit
from service.counting import Counting
from service.dictionary import Dictionary
from service.drift.figures import Figures
from service.drift.history import history_of
from service.drift.judging import Judging
from service.drift.live import Live, watched_of
from service.drift.references import Watched
from service.drift.watching import Watching
from service.settings import PREFIX, Settings

log = logging.getLogger(__name__)


class OwnDrift:
    """`start` it in an event loop, ask it, `close` it."""

    def __init__(
        self,
        settings: Settings,
        counting: Counting,
        audit: Audit | None,
        served: Callable[[], Sequence[Dictionary]],
    ) -> None:
        self._history = history_of(settings)
        self._served = served
        self.live = Live(settings, counting, self._history)
        self._watching: Watching | None = None
        self._running: asyncio.Task[None] | None = None
        if settings.redis_url is None and settings.workers == 1:
            tell = None if audit is None else audit.record
            judging = Judging(settings, counting.buckets, self._history, tell)
            figures = Figures(settings.drift_window_s)
            self._watching = Watching(judging, figures, self._watched, _alone)
        elif settings.redis_url is None:
            log.warning(
                "windows of traffic are not judged: each of %d workers knows its own traffic only; "
                "set %sREDIS_URL and start `python -m service.drift`",
                settings.workers,
                PREFIX,
            )

    def start(self) -> None:
        """Begins to judge, where this process does."""
        if self._watching is not None:
            self._running = asyncio.create_task(self._watching.run(), name="drift")

    def exposition(self) -> bytes:
        """Metrics of the newest verdicts; nothing where another process judges."""
        if self._watching is None:
            return b""
        return generate_latest(self._watching.figures.registry)

    async def close(self) -> None:
        """Ends the judging."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self._history.close()

    async def _watched(self) -> Sequence[Watched]:
        try:
            return [watched_of(dictionary) for dictionary in self._served()]
        except NotReadyError:
            return []


async def _alone(digests: Sequence[str]) -> bool | None:
    return True
