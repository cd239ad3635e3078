"""What is kept of codes so that drift can be told later: exact sums that add up; tests nothing.

Items come in blocks (one client in one stretch of time), since a client's items are alike. Per
concept four sums over blocks b with n_b items, in x_b of which the concept is active, are enough to
know later how much more than coin flips the counts vary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Integer, UInt32, UInt64

from koine.codes import PAD, Codes


@dataclass(frozen=True, slots=True)
class FireCounts:
    """In how many items each concept is active. Adding is exact, in any order."""

    items: int
    """Σ n_b."""
    blocks: int
    block_squares: int
    """Σ n_b²."""
    block_cubes: int
    """Σ n_b³."""
    fires_C: UInt32[np.ndarray, "C"]
    """Σ x_b."""
    fire_squares_C: UInt64[np.ndarray, "C"]
    """Σ x_b²."""
    fire_items_C: UInt64[np.ndarray, "C"]
    """Σ x_b n_b."""
    largest_C: UInt32[np.ndarray, "C"]
    """max x_b."""
    largest_items_C: UInt32[np.ndarray, "C"]
    """n_b of that block, the larger one's of two."""

    @classmethod
    def empty(cls, num_concepts: int) -> FireCounts:
        """Counts of no items."""
        narrow_C, wide_C = np.zeros(num_concepts, np.uint32), np.zeros(num_concepts, np.uint64)
        return cls(0, 0, 0, 0, narrow_C, wide_C, wide_C, narrow_C, narrow_C)

    @classmethod
    def of_blocks(
        cls, fires_BC: Integer[np.ndarray, "B C"], items_B: Integer[np.ndarray, "B"]
    ) -> FireCounts:
        """Counts of whole blocks; a block given in two parts counts as two."""
        n_B = items_B.astype(np.uint64)
        x_BC = fires_BC.astype(np.uint64)
        if not len(n_B):
            return cls.empty(x_BC.shape[1])
        largest_C = x_BC.max(0)
        held_BC = np.where(x_BC == largest_C, n_B[:, None], 0)
        return cls(
            int(n_B.sum()),
            len(n_B),
            int((n_B**2).sum()),
            int((n_B**3).sum()),
            x_BC.sum(0).astype(np.uint32),
            (x_BC**2).sum(0),
            n_B @ x_BC,
            largest_C.astype(np.uint32),
            held_BC.max(0).astype(np.uint32),
        )

    @classmethod
    def of_codes(
        cls, codes: Codes, block_N: Int64[np.ndarray, "N"], num_concepts: int
    ) -> FireCounts:
        """Counts of items whose blocks have these numbers."""
        _, place_N, items_B = np.unique(block_N, return_inverse=True, return_counts=True)
        active_NK = codes.indices_NK != PAD
        row_M = np.broadcast_to(place_N[:, None], active_NK.shape)[active_NK]
        flat_M = row_M * num_concepts + codes.indices_NK[active_NK]
        fires_P = np.bincount(flat_M, minlength=len(items_B) * num_concepts)
        return cls.of_blocks(fires_P.reshape(len(items_B), num_concepts), items_B)

    def __add__(self, other: FireCounts) -> FireCounts:
        """Both together; their blocks are different ones."""
        return FireCounts(
            self.items + other.items,
            self.blocks + other.blocks,
            self.block_squares + other.block_squares,
            self.block_cubes + other.block_cubes,
            self.fires_C + other.fires_C,
            self.fire_squares_C + other.fire_squares_C,
            self.fire_items_C + other.fire_items_C,
            np.maximum(self.largest_C, other.largest_C),
            _items_of_largest(self, other),
        )


def _items_of_largest(a: FireCounts, b: FireCounts) -> np.ndarray:
    equal_C = np.maximum(a.largest_items_C, b.largest_items_C)
    other_C = np.where(a.largest_C > b.largest_C, a.largest_items_C, b.largest_items_C)
    return np.where(a.largest_C == b.largest_C, equal_C, other_C)


def total(counts: Sequence[FireCounts]) -> FireCounts:
    """All of them together."""
    assert counts
    result = counts[0]
    for each in counts[1:]:
        result = result + each
    return result
