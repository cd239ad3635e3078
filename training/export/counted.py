"""Counts the reference items' codes into a profile, and how far quiet windows lie from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from koine.codes import Codes
from koine.drift.cofiring import cofiring_of, top_of
from koine.drift.means import MeanCounts
from koine.drift.nulls import measure_null
from koine.profile import Profile, StreamProfile, jaccard
from koine.types import ActsND, PresentNS

NULL_SEED = 0
"""Equal runs give equal profiles."""


class Different:
    """Finds items that a stream has seen before: equal activations are equal items."""

    def __init__(self, streams: Iterable[str]) -> None:
        self._seen = {name: set[int]() for name in streams}

    def of(self, acts: Mapping[str, ActsND], present_NS: PresentNS) -> PresentNS:
        """Which items of a batch have which stream, those that were there before left out."""
        found_NS = present_NS.copy()
        for column, (name, acts_ND) in enumerate(acts.items()):
            seen = self._seen[name]
            for n in np.flatnonzero(present_NS[:, column]):
                key = hash(acts_ND[n].tobytes())
                found_NS[n, column] = key not in seen
                seen.add(key)
        return found_NS


class Counted:
    """Sums over batches. Keeps which concepts fired: 4 k bytes an item and stream."""

    def __init__(self, streams: Sequence[str], num_concepts: int, k: int) -> None:
        self._num_concepts = num_concepts
        self._streams = {name: StreamProfile.empty(num_concepts, k) for name in streams}
        self._pairs = {f"{a}|{b}": MeanCounts() for a, b in combinations(streams, 2)}
        self._fired: dict[str, list[np.ndarray]] = {name: [] for name in streams}

    def add(self, codes: Mapping[str, Codes], present_NS: PresentNS) -> None:
        """A batch, encoded independently; columns in the order of `codes`, not all streams."""
        here = dict(zip(codes, present_NS.T, strict=True))
        for name, present_N in here.items():
            own = Codes(*(rows[present_N] for rows in codes[name]))
            block_N = np.arange(len(own.fvu_N))
            self._streams[name] += StreamProfile.of(own, block_N, self._num_concepts)
            self._fired[name].append(own.indices_NK)
        for pair in self._pairs:
            a, b = pair.split("|")
            if a not in here or b not in here:
                continue
            both_N = here[a] & here[b]
            agree_N = jaccard(*(Codes(*(r[both_N] for r in codes[each])) for each in (a, b)))
            self._pairs[pair] += MeanCounts.of(agree_N, np.arange(len(agree_N)))

    def profile(self, dictionary: str, held_out: Counted) -> Profile:
        """Of everything added; the means of fvu, active concepts and agreement are of what
        `held_out` has, where it has any."""
        streams = {
            name: _with_means(self._with_null(name), held_out._streams[name])
            for name in self._streams
        }
        pairs = {
            pair: held_out._pairs[pair] if held_out._pairs[pair].items else counts
            for pair, counts in self._pairs.items()
        }
        return Profile(dictionary, streams, pairs)

    def _with_null(self, name: str) -> StreamProfile:
        stream = self._streams[name]
        if stream.items < 2:
            return stream
        fired_NK = np.concatenate(self._fired[name])
        block_N = np.arange(len(fired_NK))
        null = measure_null(fired_NK, block_N, self._num_concepts, seed=NULL_SEED)
        together = cofiring_of(fired_NK, block_N, top_of(stream.fires.fires_C))
        return replace(stream, null=null, cofiring=together)


def _with_means(stream: StreamProfile, other: StreamProfile) -> StreamProfile:
    """The stream's fires with the other's means; its own where the other has no items."""
    if not other.items:
        return stream
    return replace(stream, l0_K1=other.l0_K1, fvu_B=other.fvu_B, fvu=other.fvu, l0=other.l0)
