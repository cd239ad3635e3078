"""Counts are sums over blocks, whichever way they were counted."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from koine.codes import Codes
from koine.drift.counts import FireCounts, total

FIRES_BC = np.array([[2, 0, 1], [0, 3, 3], [3, 1, 0]])
ITEMS_B = np.array([2, 3, 5])


def same(a: FireCounts, b: FireCounts) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in FireCounts.__slots__)


def test_sums() -> None:
    counts = FireCounts.of_blocks(FIRES_BC, ITEMS_B)
    assert (counts.items, counts.blocks) == (10, 3)
    assert (counts.block_squares, counts.block_cubes) == (4 + 9 + 25, 8 + 27 + 125)
    assert counts.fires_C.tolist() == [5, 4, 4]
    assert counts.fire_squares_C.tolist() == [13, 10, 10]
    assert counts.fire_items_C.tolist() == [4 + 15, 9 + 5, 2 + 9]
    assert counts.largest_C.tolist() == [3, 3, 3]
    assert counts.largest_items_C.tolist() == [5, 3, 3]


def test_codes_are_counted_as_their_blocks() -> None:
    codes = Codes(
        np.array([[2, 0], [0, -1], [1, 2], [2, -1]], np.int32),
        np.array([[2, 1], [1, 0], [1, 1], [1, 0]], np.float32),
        np.zeros(4, np.float32),
    )
    counted = FireCounts.of_codes(codes, np.array([7, 7, 9, 7]), 3)
    assert same(counted, FireCounts.of_blocks(np.array([[2, 0, 2], [0, 1, 1]]), np.array([3, 1])))


@given(st.permutations(range(3)), st.integers(0, 3))
def test_adding_is_counting_together(order: list[int], cut: int) -> None:
    whole = FireCounts.of_blocks(FIRES_BC, ITEMS_B)
    parts = [order[:cut], order[cut:]]
    both = total([FireCounts.of_blocks(FIRES_BC[part], ITEMS_B[part]) for part in parts])
    assert same(both, whole)


def test_nothing_is_neutral() -> None:
    counts = FireCounts.of_blocks(FIRES_BC, ITEMS_B)
    assert same(counts + FireCounts.empty(3), counts)
    assert same(FireCounts.empty(3) + counts, counts)
