"""Counting as traffic comes: one stretch of time, client by client; compares nothing.

A block of the profile is one client in the whole stretch, however its items were spread over it,
so a tally keeps a client's sums apart until the stretch has ended. Clients may tell what their
items belong to by a label; a client's items of one label have a row of their own, and a segment of
the traffic is a choice of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float64, Int64

from koine.codes import PAD, Codes
from koine.drift.counts import FireCounts
from koine.drift.means import MeanCounts
from koine.drift.segments import ALL, key_segment, label_segment
from koine.profile import FVU_BINS, FVU_STEP, MOST_FVU, Profile, StreamProfile, jaccard

MOST_ROWS = 256
"""Rows of clients that are kept apart; further clients share one for each label, which makes one
block of them."""

_Blocks = Int64[np.ndarray, "R"]
"""Which block each row belongs to; -1 for none."""


class Tally:
    """`add` items, ask for the `profile` of all so far. Not safe for several threads."""

    def __init__(self, dictionary: str, streams: Sequence[str], num_concepts: int, k: int) -> None:
        self._dictionary = dictionary
        self._streams = {name: _StreamTally(num_concepts, k) for name in streams}
        self._pairs: dict[str, _Sums] = {}
        self._rows: dict[tuple[str | None, str], int] = {}

    def add(
        self,
        codes: Mapping[str, Codes],
        rows: Mapping[str, Sequence[int]],
        clients: Sequence[str],
        labels: Sequence[str] | None = None,
    ) -> None:
        """Items of these clients; `rows[stream][i]` is the item of row i of `codes[stream]`.

        `labels`: what each item belongs to, "" for nothing; few different ones.
        """
        pairs = zip(clients, labels or [""] * len(clients), strict=True)
        row_N = np.array([self._row(client, label) for client, label in pairs], np.int64)
        for name, own in codes.items():
            self._streams[name].add(own, row_N[list(rows[name])])
        for a, b in combinations(codes, 2):
            both, at_a, at_b = np.intersect1d(rows[a], rows[b], return_indices=True)
            if len(both):
                agreed_M = jaccard(_part(codes[a], at_a), _part(codes[b], at_b))
                sums = self._pairs.setdefault(f"{a}|{b}", _Sums())
                sums.add(agreed_M, row_N[both])

    def profile(self, segment: str = ALL) -> Profile:
        """All so far of a segment."""
        block_R = self._blocks(segment)
        return Profile(
            self._dictionary,
            {name: stream.profile(block_R) for name, stream in self._streams.items()},
            {pair: sums.counts(block_R) for pair, sums in self._pairs.items()},
        )

    def _row(self, client: str, label: str) -> int:
        known = self._rows.get((client, label))
        if known is not None:
            return known
        owner = client if len(self._rows) < MOST_ROWS else None
        return self._rows.setdefault((owner, label), len(self._rows))

    def _blocks(self, segment: str) -> _Blocks:
        block_R = np.full(len(self._rows), -1, np.int64)
        blocks: dict[str | None, int] = {}
        for (client, label), row in self._rows.items():
            of_client = client is not None and segment == key_segment(client)
            if segment == ALL or of_client or (label and segment == label_segment(label)):
                block_R[row] = blocks.setdefault(client, len(blocks))
        return block_R


class _Sums:
    """A number's sums by row."""

    def __init__(self) -> None:
        self._items_R = np.zeros(1, np.int64)
        self._sum_R = np.zeros(1, np.float64)

    def add(self, values_N: Float64[np.ndarray, "N"], row_N: Int64[np.ndarray, "N"]) -> None:
        most = int(row_N.max(initial=0)) + 1
        self._items_R, self._sum_R = _grown(self._items_R, most), _grown(self._sum_R, most)
        known_N = np.isfinite(values_N)
        np.add.at(self._items_R, row_N[known_N], 1)
        np.add.at(self._sum_R, row_N[known_N], values_N[known_N])

    def counts(self, block_R: _Blocks) -> MeanCounts:
        items_B, sum_B = _by_block(self._items_R, block_R), _by_block(self._sum_R, block_R)
        there_B = items_B > 0
        return MeanCounts.of_blocks(items_B[there_B], sum_B[there_B])


class _StreamTally:
    def __init__(self, num_concepts: int, k: int) -> None:
        self._items_R = np.zeros(1, np.int64)
        self._fires_RC = np.zeros((1, num_concepts), np.uint32)
        self._value_sums_RC = np.zeros((1, num_concepts), np.float32)
        self._l0_RK1 = np.zeros((1, k + 1), np.uint32)
        self._fvu_RB = np.zeros((1, FVU_BINS), np.uint32)
        self._fvu, self._l0 = _Sums(), _Sums()

    def add(self, codes: Codes, row_N: Int64[np.ndarray, "N"]) -> None:
        self._grow(int(row_N.max(initial=0)) + 1)
        active_NK = codes.indices_NK != PAD
        at_M = np.broadcast_to(row_N[:, None], active_NK.shape)[active_NK]
        concept_M = codes.indices_NK[active_NK]
        np.add.at(self._items_R, row_N, 1)
        np.add.at(self._fires_RC, (at_M, concept_M), 1)
        np.add.at(self._value_sums_RC, (at_M, concept_M), codes.values_NK[active_NK])
        l0_N = active_NK.sum(1)
        np.add.at(self._l0_RK1, (row_N, l0_N), 1)
        fvu_N = np.clip(codes.fvu_N.astype(np.float64), 0, MOST_FVU)
        known_N = np.isfinite(fvu_N)
        bin_N = (fvu_N[known_N] / FVU_STEP).astype(np.int64)
        np.add.at(self._fvu_RB, (row_N[known_N], bin_N), 1)
        self._fvu.add(fvu_N, row_N)
        self._l0.add(l0_N.astype(np.float64), row_N)

    def profile(self, block_R: _Blocks) -> StreamProfile:
        items_B = _by_block(self._items_R, block_R)
        there_B = np.flatnonzero(items_B)
        fires_BC = _by_block(self._fires_RC, block_R)[there_B]
        chosen = np.flatnonzero(block_R[: len(self._items_R)] >= 0)
        return StreamProfile(
            FireCounts.of_blocks(fires_BC, items_B[there_B]),
            self._value_sums_RC[chosen].sum(0, dtype=np.float64),
            self._l0_RK1[chosen].sum(0, dtype=np.uint32),
            self._fvu_RB[chosen].sum(0, dtype=np.uint32),
            self._fvu.counts(block_R),
            self._l0.counts(block_R),
        )

    def _grow(self, most: int) -> None:
        if most > len(self._items_R):
            self._items_R = _grown(self._items_R, most)
            self._fires_RC = _grown(self._fires_RC, most)
            self._value_sums_RC = _grown(self._value_sums_RC, most)
            self._l0_RK1 = _grown(self._l0_RK1, most)
            self._fvu_RB = _grown(self._fvu_RB, most)


def _grown(rows_R: np.ndarray, most: int) -> np.ndarray:
    """With room for `most` rows, and for more to come."""
    if most <= len(rows_R):
        return rows_R
    wider = np.zeros((2 * most, *rows_R.shape[1:]), rows_R.dtype)
    wider[: len(rows_R)] = rows_R
    return wider


def _by_block(rows_R: np.ndarray, block_R: _Blocks) -> np.ndarray:
    """Rows added up by block."""
    count = int(block_R.max(initial=-1)) + 1
    total_B = np.zeros((count, *rows_R.shape[1:]), rows_R.dtype)
    for row, block in enumerate(block_R[: len(rows_R)].tolist()):
        if block >= 0:
            total_B[block] += rows_R[row]
    return total_B


def _part(codes: Codes, at_M: np.ndarray) -> Codes:
    return Codes(*(rows[at_M] for rows in codes))
