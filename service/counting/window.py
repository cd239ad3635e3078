"""What all processes counted in a stretch of time, added up; counts nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from koine.drift.tally import Tally, tally_of
from koine.profile import Profile
from service.counting.buckets import Bucket, Buckets


class Window(NamedTuple):
    """What all processes counted in a stretch of time."""

    start: int
    end: int
    """Seconds since 1970."""
    profile: Profile | None
    """None where nobody counted anything."""


async def read_window(
    buckets: Buckets, digest: str, segment: str, start: int, end: int, bucket_s: int
) -> Window:
    """All that was counted of a segment from `start` to `end`. Raises `OSError` where Redis
    cannot be asked, `ArtifactError` for counts that are damaged."""
    asked = [Bucket(digest, segment, at) for at in range(start, end, bucket_s)]
    found = await buckets.read(asked)
    return Window(start, end, await asyncio.to_thread(_total, found))


def _total(found: Sequence[bytes]) -> Profile | None:
    total: Tally | None = None
    for content in found:
        tally = tally_of(content)
        total = tally if total is None else total + tally
    return None if total is None else total.profile()
