"""Counting as traffic comes: one stretch of time, client by client; compares nothing.

A block of the profile is one client in the whole stretch, however its items were spread over it,
so a tally keeps a client's sums apart until the stretch has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float64, Int64

from koine.codes import PAD, Codes
from koine.drift.counts import FireCounts
from koine.drift.means import MeanCounts
from koine.profile import FVU_BINS, FVU_STEP, MOST_FVU, Profile, StreamProfile, jaccard

MOST_CLIENTS = 256
"""Clients that are kept apart; more share places, which makes a block of several."""


class Tally:
    """`add` items, ask for the `profile` of all so far. Not safe for several threads."""

    def __init__(self, dictionary: str, streams: Sequence[str], num_concepts: int, k: int) -> None:
        self._dictionary = dictionary
        self._streams = {name: _StreamTally(num_concepts, k) for name in streams}
        self._pairs: dict[str, _Sums] = {}
        self._clients: dict[str, int] = {}

    def add(
        self, codes: Mapping[str, Codes], rows: Mapping[str, Sequence[int]], clients: Sequence[str]
    ) -> None:
        """Items of these clients; `rows[stream][i]` is the item of row i of `codes[stream]`."""
        place_N = np.array([self._place(client) for client in clients], np.int64)
        for name, own in codes.items():
            self._streams[name].add(own, place_N[list(rows[name])])
        for a, b in combinations(codes, 2):
            both, at_a, at_b = np.intersect1d(rows[a], rows[b], return_indices=True)
            if len(both):
                agreed_M = jaccard(_part(codes[a], at_a), _part(codes[b], at_b))
                sums = self._pairs.setdefault(f"{a}|{b}", _Sums())
                sums.add(agreed_M, place_N[both])

    def profile(self) -> Profile:
        """All so far."""
        return Profile(
            self._dictionary,
            {name: stream.profile() for name, stream in self._streams.items()},
            {pair: sums.counts() for pair, sums in self._pairs.items()},
        )

    def _place(self, client: str) -> int:
        known = self._clients.get(client)
        if known is None:
            known = self._clients[client] = len(self._clients) % MOST_CLIENTS
        return known


class _Sums:
    """A number's sums by client."""

    def __init__(self) -> None:
        self._items_B = np.zeros(MOST_CLIENTS, np.int64)
        self._sum_B = np.zeros(MOST_CLIENTS, np.float64)

    def add(self, values_N: Float64[np.ndarray, "N"], place_N: Int64[np.ndarray, "N"]) -> None:
        known_N = np.isfinite(values_N)
        np.add.at(self._items_B, place_N[known_N], 1)
        np.add.at(self._sum_B, place_N[known_N], values_N[known_N])

    def counts(self) -> MeanCounts:
        there_B = self._items_B > 0
        return MeanCounts.of_blocks(self._items_B[there_B], self._sum_B[there_B])


class _StreamTally:
    def __init__(self, num_concepts: int, k: int) -> None:
        self._items_B = np.zeros(MOST_CLIENTS, np.int64)
        self._fires_BC = np.zeros((1, num_concepts), np.uint32)  # grows with the clients
        self._value_sums_C = np.zeros(num_concepts, np.float64)
        self._l0_K1 = np.zeros(k + 1, np.uint32)
        self._fvu_B = np.zeros(FVU_BINS, np.uint32)
        self._fvu, self._l0 = _Sums(), _Sums()

    def add(self, codes: Codes, place_N: Int64[np.ndarray, "N"]) -> None:
        most = int(place_N.max(initial=0)) + 1
        if most > len(self._fires_BC):
            wider = np.zeros((min(MOST_CLIENTS, 2 * most), self._fires_BC.shape[1]), np.uint32)
            wider[: len(self._fires_BC)] = self._fires_BC
            self._fires_BC = wider
        active_NK = codes.indices_NK != PAD
        at_M, concept_M = np.broadcast_to(place_N[:, None], active_NK.shape), codes.indices_NK
        np.add.at(self._items_B, place_N, 1)
        np.add.at(self._fires_BC, (at_M[active_NK], concept_M[active_NK]), 1)
        np.add.at(self._value_sums_C, concept_M[active_NK], codes.values_NK[active_NK])
        l0_N = active_NK.sum(1)
        np.add.at(self._l0_K1, l0_N, 1)
        fvu_N = np.clip(codes.fvu_N.astype(np.float64), 0, MOST_FVU)
        np.add.at(self._fvu_B, (fvu_N[np.isfinite(fvu_N)] / FVU_STEP).astype(np.int64), 1)
        self._fvu.add(fvu_N, place_N)
        self._l0.add(l0_N.astype(np.float64), place_N)

    def profile(self) -> StreamProfile:
        there_B = np.flatnonzero(self._items_B)
        return StreamProfile(
            FireCounts.of_blocks(self._fires_BC[there_B], self._items_B[there_B]),
            self._value_sums_C.copy(),
            self._l0_K1.copy(),
            self._fvu_B.copy(),
            self._fvu.counts(),
            self._l0.counts(),
        )


def _part(codes: Codes, at_M: np.ndarray) -> Codes:
    return Codes(*(rows[at_M] for rows in codes))
