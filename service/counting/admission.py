"""Which segments of the traffic are watched: the first that come, a bounded number; counts none.

Processes that share a Redis agree through it. Two that each meet a new segment in the same moment
may both take theirs, so that a few more than the bound are watched.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from koine.drift.segments import is_label
from service.counting.buckets import Buckets

log = logging.getLogger(__name__)


class Admission:
    """Half of the places are for API keys, half for labels."""

    def __init__(self, buckets: Buckets, most: int) -> None:
        self._buckets, self._most = buckets, most
        self._known: dict[str, set[str]] = {}
        self._told = False

    async def admitted(self, digest: str, asked: Collection[str]) -> set[str]:
        """Those of the `asked` that are watched. Without Redis, as far as this process knows."""
        if not asked or not self._most:
            return set()
        known = self._known.setdefault(digest, set())
        try:
            known = self._known[digest] = await self._buckets.segments(digest)
        except OSError as error:
            log.debug("segments are those known: %s", error)
        chosen = known & set(asked)
        for segment in sorted(set(asked) - known):
            alike = sum(is_label(each) == is_label(segment) for each in known)
            if alike < self._most // 2:
                known.add(segment)
                chosen.add(segment)
            elif not self._told:
                self._told = True
                log.warning("%s is not watched: %d of its kind are already", segment, alike)
        try:
            await self._buckets.seen(digest, chosen)
        except OSError as error:
            log.debug("segments wait to be written: %s", error)
        return chosen
