"""Means of blocks: exact sums, and as sure as the blocks allow."""

from __future__ import annotations

import math

import numpy as np
import pytest

from koine.drift.means import MeanCounts, mean_change


def noisy(shift: float, seed: int, items: int = 2000, size: int = 20) -> MeanCounts:
    """Blocks of `size` items that share half of their variance."""
    rng = np.random.default_rng(seed)
    block_N = np.repeat(np.arange(items // size), size)
    shared_N = rng.normal(size=items // size)[block_N]
    return MeanCounts.of(shift + shared_N + rng.normal(size=items), block_N)


def test_adding_is_counting_together() -> None:
    values_N, block_N = np.arange(10.0), np.array([0, 0, 1, 1, 1, 2, 2, 3, 3, 3])
    whole = MeanCounts.of(values_N, block_N)
    both = MeanCounts.of(values_N[:5], block_N[:5]) + MeanCounts.of(values_N[5:], block_N[5:])
    assert whole == both
    assert whole.mean == 4.5


def test_what_is_not_finite_is_left_out() -> None:
    counts = MeanCounts.of(np.array([1.0, np.nan, 3.0]), np.array([0, 0, 1]))
    assert (counts.items, counts.mean) == (2, 2)


def test_error_is_that_of_blocks() -> None:
    means = [noisy(0, seed) for seed in range(300)]
    seen = float(np.var([one.mean for one in means]))
    assert float(np.mean([one.variance for one in means])) == pytest.approx(seen, rel=0.25)


def test_a_few_large_blocks_are_few() -> None:
    sizes = np.array([300, 200] + [2] * 50)
    block_N = np.repeat(np.arange(len(sizes)), sizes)
    means: list[MeanCounts] = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        shared_N = rng.normal(size=len(sizes))[block_N]
        means.append(MeanCounts.of(shared_N + rng.normal(size=len(block_N)), block_N))
    seen = float(np.var([one.mean for one in means]))
    assert float(np.mean([one.variance for one in means])) == pytest.approx(seen, rel=0.25)
    p = [mean_change(a, b).p for a, b in zip(means[::2], means[1::2], strict=True)]
    # binomial(200, .01): more than 8 once in a thousand; taken for 52 blocks they are 20 and more
    assert sum(one < 0.01 for one in p) <= 8


def test_quiet_means_alarm_as_often_as_they_say() -> None:
    p = [mean_change(noisy(0, s), noisy(0, 1000 + s)).p for s in range(400)]
    # binomial(400, .05): 7 to 35 is five standard deviations
    assert 7 <= sum(one < 0.05 for one in p) <= 35


def test_a_shift_is_found_within_its_interval() -> None:
    change = mean_change(noisy(0, 1), noisy(1, 2))
    assert change.p < 1e-4
    assert change.low < 1 < change.high


def test_one_block_tells_no_error() -> None:
    one = MeanCounts.of(np.ones(5), np.zeros(5, np.int64))
    assert math.isnan(mean_change(one, noisy(0, 1)).p)
    assert math.isnan(MeanCounts().mean)


def test_constants_differ_or_do_not() -> None:
    a = MeanCounts.of(np.ones(4), np.array([0, 0, 1, 1]))
    b = MeanCounts.of(np.full(4, 2.0), np.array([0, 0, 1, 1]))
    assert mean_change(a, a).p == 1
    assert mean_change(a, b).p == 0
