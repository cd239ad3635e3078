"""How often the most frequent concepts are active together: counts as of concepts, but of pairs.

Two concepts may each be as frequent as ever and meet more often than they did: dogs and snow, not
more of either. A pair is judged by the same tests as a concept, and counts as changed only where
its parts' own changes do not explain it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64, Integer, UInt32

from koine.codes import PAD
from koine.drift.changes import ChangeConfig, Changes, concept_changes
from koine.drift.counts import FireCounts

TOP = 32
"""Concepts of a stream whose pairs are counted."""

Top = Int32[np.ndarray, "T"]
"""Ids of the concepts, ascending."""


class Cofiring(NamedTuple):
    """Counts of a stream's pairs."""

    top_T: Top
    fires: FireCounts
    """Of each pair, in the order of `numpy.triu_indices(T, 1)`."""

    def plus(self, other: Cofiring | None) -> Cofiring | None:
        """Both together; None where they are not of the same concepts."""
        if other is None or not np.array_equal(self.top_T, other.top_T):
            return None
        return Cofiring(self.top_T, self.fires + other.fires)


class ChangedPair(NamedTuple):
    """Two concepts that meet more or less often than they did."""

    a: int
    b: int
    ratio: float
    low: float
    high: float
    rate_then: float
    rate_now: float
    q: float


def top_of(fires_C: Integer[np.ndarray, "C"]) -> Top:
    """The most frequent concepts, as far as they fire at all."""
    order_C = np.argsort(-fires_C.astype(np.int64), kind="stable")[:TOP]
    return np.sort(order_C[fires_C[order_C] > 0]).astype(np.int32)


def pair_fires(
    indices_NK: Int32[np.ndarray, "N K"], group_N: Int64[np.ndarray, "N"], top_T: Top, groups: int
) -> UInt32[np.ndarray, "G P"]:
    """In how many items of each group each pair is active."""
    here_NT = np.zeros((len(group_N), len(top_T) + 1), np.float32)
    if len(top_T):
        place_NK = np.minimum(np.searchsorted(top_T, indices_NK), len(top_T) - 1)
        found_NK = (top_T[place_NK] == indices_NK) & (indices_NK != PAD)
        place_NK = np.where(found_NK, place_NK, len(top_T))  # the last column is no concept's
        np.put_along_axis(here_NT, place_NK, 1, 1)
    first_P, second_P = np.triu_indices(len(top_T), 1)
    fires_GP = np.zeros((groups, len(first_P)), np.uint32)
    for group in np.unique(group_N):
        own_MT = here_NT[group_N == group]
        fires_GP[group] = (own_MT.T @ own_MT)[first_P, second_P]
    return fires_GP


def cofiring_of(
    indices_NK: Int32[np.ndarray, "N K"], block_N: Int64[np.ndarray, "N"], top_T: Top
) -> Cofiring:
    """Counts of items whose blocks have these numbers."""
    _, place_N, items_B = np.unique(block_N, return_inverse=True, return_counts=True)
    fires_BP = pair_fires(indices_NK, place_N, top_T, len(items_B))
    return Cofiring(top_T, FireCounts.of_blocks(fires_BP, items_B))


def changed_pairs(
    then: Cofiring | None, now: Cofiring | None, changes: Changes, config: ChangeConfig
) -> tuple[ChangedPair, ...]:
    """The surest change first; none where the two are of other concepts, or one has none.

    `changes`: of the concepts themselves.
    """
    if then is None or now is None or not np.array_equal(then.top_T, now.top_T):
        return ()
    if not then.fires.items or not now.fires.items or len(then.top_T) < 2:
        return ()
    found = concept_changes(then.fires, now.fires, config)
    first_P, second_P = (then.top_T[at_P] for at_P in np.triu_indices(len(then.top_T), 1))
    explained_P = changes.ratio_C[first_P] * changes.ratio_C[second_P]
    beyond_P = np.abs(np.log(found.ratio_C / explained_P)) >= np.log(config.least_ratio)
    own_P = ~(changes.changed_C[first_P] | changes.changed_C[second_P])
    at = np.flatnonzero(found.changed_C & beyond_P & own_P)
    return tuple(
        ChangedPair(
            int(first_P[p]),
            int(second_P[p]),
            float(found.ratio_C[p]),
            float(found.low_C[p]),
            float(found.high_C[p]),
            float(found.rate_then_C[p]),
            float(found.rate_now_C[p]),
            float(found.q_C[p]),
        )
        for p in at[np.argsort(found.q_C[at], kind="stable")]
    )
