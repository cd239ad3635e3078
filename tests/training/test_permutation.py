"""The shuffle is a permutation of every size, looks uniform, and differs by key."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import permutation
from training.permutation import shuffled

KEYS = st.tuples(st.integers(0, 2**63), st.integers(0, 3), st.integers(0, 10**6))


@given(count=st.integers(1, 5000), key=KEYS)
@settings(deadline=None)
def test_every_item_occurs_once(count: int, key: tuple[int, int, int]) -> None:
    assert np.array_equal(np.sort(shuffled(count, key, 0, count)), np.arange(count))


@given(count=st.integers(1, 300), key=KEYS, data=st.data())
@settings(deadline=None)
def test_a_part_is_the_whole_cut(
    count: int, key: tuple[int, int, int], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, count))
    end = data.draw(st.integers(start, count))
    assert np.array_equal(
        shuffled(count, key, start, end), shuffled(count, key, 0, count)[start:end]
    )


def test_windows_join(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shuffled(1000, (1, 0, 7), 0, 1000)
    permutation._window.cache_clear()
    monkeypatch.setattr(permutation, "WINDOW", 64)
    try:
        assert np.array_equal(whole, shuffled(1000, (1, 0, 7), 0, 1000))
        assert np.array_equal(whole[60:200], shuffled(1000, (1, 0, 7), 60, 200))
    finally:
        permutation._window.cache_clear()


def test_keys_give_different_shuffles() -> None:
    orders = {
        shuffled(100, (seed, 0, epoch), 0, 100).tobytes() for seed in (1, 2) for epoch in range(50)
    }
    assert len(orders) == 100


@pytest.mark.parametrize("count", [3, 7, 12, 33])
def test_where_an_item_lands_is_uniform(count: int) -> None:
    """Chi-square over all pairs of item and position: 5 standard deviations."""
    trials = 4000
    seen = np.zeros((count, count))
    for epoch in range(trials):
        seen[np.arange(count), shuffled(count, (0, 0, epoch), 0, count)] += 1
    chi = (np.square(seen - trials / count) / (trials / count)).sum()
    degrees = (count - 1) ** 2
    assert abs(chi - degrees) < 5 * np.sqrt(2 * degrees), (chi, degrees)


def test_neighbours_of_a_large_shuffle_are_unrelated() -> None:
    """Serial correlation of 65,536 neighbours among a thousand million: 5 / sqrt(n)."""
    count = 1_000_000_007
    items = shuffled(count, (4, 0, 2), 999_000_000, 999_065_536).astype(np.float64)
    assert len(np.unique(items)) == len(items)
    assert abs(np.corrcoef(items[:-1], items[1:])[0, 1]) < 5 / 256
    assert abs(items.mean() / count - 0.5) < 5 * 0.289 / 256
