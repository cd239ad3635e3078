"""A shuffle of any size in constant memory: position → item, computed when asked for.

An alternating Feistel network over the smallest power of two that holds all items, walked on until
it lands inside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"). Every round is a
bijection, so the whole is one whatever the keys. Knows no rows, no steps and no files.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Int64, UInt64

ROUNDS = 10
"""Four make a Feistel network pseudo-random; small halves need more to look uniform."""
WINDOW = 1 << 16
"""Positions computed together: numpy's overhead is paid once for them, and 512 KiB are held."""

_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)


def shuffled(count: int, key: tuple[int, ...], start: int, end: int) -> Int64[np.ndarray, "N"]:
    """Items at the positions start..end of the shuffle `key` of 0..count."""
    assert 0 <= start <= end <= count, (start, end, count)
    parts = [
        _window(count, key, window)[max(0, start - window * WINDOW) : end - window * WINDOW]
        for window in range(start // WINDOW, -(-end // WINDOW))
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


@lru_cache(maxsize=4)
def _window(count: int, key: tuple[int, ...], window: int) -> Int64[np.ndarray, "W"]:
    start = window * WINDOW
    items_W = np.arange(start, min(start + WINDOW, count), dtype=np.uint64)
    keys = np.random.default_rng(key).integers(0, 1 << 64, ROUNDS, np.uint64, endpoint=False)
    bits = max(2, (count - 1).bit_length())
    items_W = _network(items_W, keys, bits)
    while len(outside := np.flatnonzero(items_W >= count)):
        items_W[outside] = _network(items_W[outside], keys, bits)
    return items_W.astype(np.int64)


def _network(
    items_W: UInt64[np.ndarray, "W"], keys: UInt64[np.ndarray, "rounds"], bits: int
) -> UInt64[np.ndarray, "W"]:
    """One bijection of 0..2^bits: each half in turn is XORed with a hash of the other."""
    low_bits = np.uint64(bits // 2)
    low_mask, high_mask = np.uint64((1 << bits // 2) - 1), np.uint64((1 << bits - bits // 2) - 1)
    low_W, high_W = items_W & low_mask, items_W >> low_bits
    for number, key in enumerate(keys):
        if number % 2:
            high_W ^= _hash(low_W, key) & high_mask
        else:
            low_W ^= _hash(high_W, key) & low_mask
    return high_W << low_bits | low_W


def _hash(half_W: UInt64[np.ndarray, "W"], key: np.uint64) -> UInt64[np.ndarray, "W"]:
    """SplitMix64's finaliser, over half and key."""
    mixed_W = half_W ^ key
    mixed_W = (mixed_W ^ mixed_W >> _SHIFTS[0]) * _MIX_1
    mixed_W = (mixed_W ^ mixed_W >> _SHIFTS[1]) * _MIX_2
    return mixed_W ^ mixed_W >> _SHIFTS[2]
