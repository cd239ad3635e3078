"""What traffic is compared with: the artifact's profile, or what the same traffic was at first.

A segment is compared with its own beginning, since a client that differs from the rest has not
changed. Until enough items were seen, there is no reference.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Literal, NamedTuple

from koine.drift.segments import ALL
from koine.errors import ArtifactError
from koine.profile import Profile, StreamProfile, profile_bytes, profile_of
from service.counting import Window
from service.drift.history import History, Learnt
from service.settings import Settings

LEAST_BLOCKS = 20
"""Blocks that a reference is learnt from: how much they vary must be known."""

Source = Literal["artifact", "live", "learning"]


class Watched(NamedTuple):
    """What is needed of a dictionary to judge its traffic."""

    digest: str
    title: str
    """`name@version`."""
    labels: Mapping[int, str]
    profile: Profile
    """The artifact's."""


class Reference(NamedTuple):
    """What a segment is compared with."""

    source: Source
    profile: Profile
    """Without streams while it is learnt."""
    items: int
    """Of the stream that has most."""


class References:
    """Of each dictionary's segments."""

    def __init__(self, settings: Settings, history: History) -> None:
        self._whole_traffic, self._needed = settings.drift_reference, settings.drift_learn_items
        self._history = history
        self._read: dict[tuple[str, str], tuple[Learnt, Profile]] = {}

    async def of(self, watched: Watched, segment: str) -> Reference:
        """Raises `OSError` where Redis cannot be asked, `ArtifactError` for damaged sums."""
        if segment == ALL and self._whole_traffic == "artifact":
            return Reference("artifact", watched.profile, _most_items(watched.profile))
        learnt = await self._history.learnt(watched.digest, segment)
        if learnt is None:
            return Reference("learning", Profile(watched.title, {}), 0)
        profile = self._profile(watched.digest, segment, learnt)
        if not learnt.whole:
            return Reference("learning", Profile(watched.title, {}), _most_items(profile))
        return Reference("live", profile, _most_items(profile))

    async def learn(self, watched: Watched, segment: str, window: Window) -> None:
        """Adds a window to a reference that is learnt, once. Raises as `of` does."""
        if window.profile is None:
            return
        old = await self._history.learnt(watched.digest, segment)
        profile = window.profile
        if old is not None:
            if old.whole or window.start < old.through:
                return
            profile = self._profile(watched.digest, segment, old) + profile
        blocks = max((each.fires.blocks for each in profile.streams.values()), default=0)
        whole = _most_items(profile) >= self._needed and blocks >= LEAST_BLOCKS
        packed = zlib.compress(profile_bytes(profile), 1)
        await self._history.learn(watched.digest, segment, Learnt(packed, window.end, whole))

    def _profile(self, digest: str, segment: str, learnt: Learnt) -> Profile:
        known = self._read.get((digest, segment))
        if known is not None and known[0] == learnt:
            return known[1]
        try:
            profile = profile_of(zlib.decompress(learnt.profile), "a learnt reference")
        except zlib.error as error:
            raise ArtifactError(f"a learnt reference is damaged: {error}") from error
        self._read[digest, segment] = (learnt, profile)
        return profile


def profile_of_window(watched: Watched, window: Window) -> Profile:
    """What was counted; of nothing, every stream with no items."""
    if window.profile is not None:
        return window.profile
    empty = {
        name: StreamProfile.empty(len(stream.fires.fires_C), len(stream.l0_K1) - 1)
        for name, stream in watched.profile.streams.items()
    }
    return Profile(watched.title, empty)


def _most_items(profile: Profile) -> int:
    return max((stream.items for stream in profile.streams.values()), default=0)
