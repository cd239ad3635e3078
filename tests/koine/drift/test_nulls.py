"""Distances of quiet windows stay where the reference's own windows are."""

from __future__ import annotations

import numpy as np
import pytest

from koine.drift.nulls import QUANTILES, Null, js_distance, measure_null

C = 200


def items(rates_C: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Indices of 8 concepts an item."""
    rng = np.random.default_rng(seed)
    keys_NC = np.log(rng.random((count, C))) / rates_C
    return np.argsort(-keys_NC, axis=1)[:, :8].astype(np.int32)


def fires(indices_NK: np.ndarray) -> np.ndarray:
    return np.bincount(indices_NK.ravel(), minlength=C).astype(np.float64)


RATES_C = np.exp(np.random.default_rng(0).normal(size=C))
REFERENCE_NK = items(RATES_C, 8000, 1)
NULL = measure_null(REFERENCE_NK, np.arange(8000), C, seed=0, sizes=(250, 1000, 4000))


def test_distance() -> None:
    a, b = np.array([1.0, 1, 0]), np.array([0.0, 0, 2])
    assert js_distance(a, a * 3) == pytest.approx(0, abs=1e-9)
    assert js_distance(a, b) == pytest.approx(1)
    assert np.isnan(js_distance(a, b * 0))


@pytest.mark.parametrize("count", [250, 700, 1000])
def test_quiet_windows_stay_below(count: int) -> None:
    far = [
        js_distance(fires(REFERENCE_NK), fires(items(RATES_C, count, 10 + s)))
        > NULL.quantile(count, 0.95)
        for s in range(60)
    ]
    # binomial(60, .05): more than 9 once in a thousand
    assert sum(far) <= 9


def test_other_traffic_lies_beyond() -> None:
    rates_C = RATES_C.copy()
    rates_C[:20] *= 3
    distance = js_distance(fires(REFERENCE_NK), fires(items(rates_C, 1000, 5)))
    assert distance > NULL.quantile(1000, 0.99)


def test_larger_windows_lie_nearer() -> None:
    for which in QUANTILES:
        near = [NULL.quantile(size, which) for size in (100, 250, 600, 4000, 16000)]
        assert near == sorted(near, reverse=True)
    assert NULL.quantile(16000, 0.5) == pytest.approx(NULL.quantile(4000, 0.5) / 2)


def test_clients_that_are_alike_move_it_further() -> None:
    rng = np.random.default_rng(3)
    parts = [items(RATES_C * np.exp(rng.normal(size=C)), 40, s) for s in range(100)]
    block_N = np.repeat(np.arange(100), 40)
    apart = measure_null(np.concatenate(parts), block_N, C, seed=0, sizes=(1000,))
    assert apart.quantile(1000, 0.5) > 1.3 * NULL.quantile(1000, 0.5)


def test_whole_blocks_that_overshoot_a_size_do_not_move_it() -> None:
    large = measure_null(REFERENCE_NK, np.arange(8000) // 400, C, seed=0, sizes=(250,))
    alone = measure_null(REFERENCE_NK, np.arange(8000), C, seed=0, sizes=(250,))
    # windows of 400 items, given as if of 250; two bootstraps of 400 rounds differ by some percent
    assert large.quantile(250, 0.5) == pytest.approx(alone.quantile(250, 0.5), rel=0.1)


def test_a_small_reference_gives_what_it_can() -> None:
    null = measure_null(REFERENCE_NK[:300], np.arange(300), C, seed=0)
    assert isinstance(null, Null)
    assert null.sizes_W.tolist() == [150]
