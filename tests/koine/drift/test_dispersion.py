"""The correlation within blocks is found where it was put, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.monitoring.traffic import long_tailed_rates, traffic
from koine.drift.counts import FireCounts
from koine.drift.dispersion import correlation, design_effect

RATES_C = long_tailed_rates(500, 0)


@pytest.mark.parametrize("alike", [0.01, 0.05, 0.2])
def test_finds_what_was_put_in(alike: float) -> None:
    counts = traffic(RATES_C, 20_000, 1, alike=alike)
    found_C = correlation(counts)
    weighted = np.average(found_C, weights=RATES_C)
    # estimates are taken one standard deviation above, and 400 blocks tell to a fifth
    assert alike * 0.8 < weighted < alike * 1.6


def test_independent_items_have_none() -> None:
    counts = traffic(RATES_C, 20_000, 2)
    assert correlation(counts).max() < 0.004
    assert design_effect(counts, correlation(counts)).max() < 1.5


def test_a_few_large_clients_make_no_concept_look_less_alike_than_all_are() -> None:
    counts = traffic(RATES_C, 2000, 6, mean=60, alike=0.05)
    found_C = correlation(counts)
    assert np.quantile(found_C, 0.02) > 0.5 * np.average(found_C, weights=RATES_C)


def test_a_single_block_tells_nothing() -> None:
    counts = FireCounts.of_blocks(np.array([[3, 0]]), np.array([10]))
    assert correlation(counts).tolist() == [0, 0]


def test_blocks_of_one_item_need_no_correction() -> None:
    fires_BC = np.random.default_rng(0).random((300, 20)) < 0.1
    counts = FireCounts.of_blocks(fires_BC.astype(np.int64), np.ones(300, np.int64))
    assert design_effect(counts, correlation(counts)).tolist() == [1] * 20


def test_concepts_that_always_or_never_fire_are_no_trouble() -> None:
    fires_BC = np.array([[0, 4, 1], [0, 6, 5]])
    counts = FireCounts.of_blocks(fires_BC, np.array([4, 6]))
    assert np.isfinite(correlation(counts)).all()
