"""What all processes counted in a stretch of time, added up; counts nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import NamedTuple

from koine.drift.segments import ALL, by_time, is_by_time, is_key
from koine.drift.tally import Tally, tally_of
from koine.drift.verdict import DriftConfig
from koine.profile import Profile
from service.counting.buckets import Bucket, Buckets

FEW = DriftConfig().least_blocks
"""Groups below which there is no verdict."""


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
    """All that was counted of a segment from `start` to `end`.

    A handful of clients are no sample of clients: where traffic is of fewer groups than a verdict
    needs, its items are those that were grouped by when they came (of all traffic, the keys'
    segments together). Raises `OSError` where Redis cannot be asked, `ArtifactError` for damaged
    counts.
    """

    async def read(of: str) -> Tally | None:
        found = await buckets.read([Bucket(digest, of, at) for at in range(start, end, bucket_s)])
        return await asyncio.to_thread(_total, found)

    total = await read(segment)
    if total is not None and not is_by_time(segment) and _groups(total) < FEW:
        keys = [one for one in await buckets.segments(digest) if is_key(one)]
        parts = keys if segment == ALL else [by_time(segment)]
        timed = _added([each for part in parts if (each := await read(part)) is not None])
        if timed is not None and _items(timed) == _items(total):
            total = timed
    return Window(start, end, None if total is None else total.profile())


def _total(found: Sequence[bytes]) -> Tally | None:
    return _added([tally_of(content) for content in found])


def _added(tallies: Sequence[Tally]) -> Tally | None:
    return reduce(add, tallies) if tallies else None


def _groups(tally: Tally) -> int:
    return max(int((stream.items_G > 0).sum()) for stream in tally.streams.values())


def _items(tally: Tally) -> dict[str, int]:
    return {name: int(stream.items_G.sum()) for name, stream in tally.streams.items()}
