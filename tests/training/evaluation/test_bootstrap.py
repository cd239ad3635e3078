"""Intervals: they hold the estimate, are as wide as theory says, and say when there is none."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.bootstrap import RESAMPLES, Bootstrap, interval


def test_the_estimate_is_that_of_the_items_themselves() -> None:
    over, under = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 4.0])
    found = interval(Bootstrap(3).ratio(over, under))
    assert found is not None
    assert found.value == pytest.approx(6 / 8)
    assert found.low <= found.value <= found.high


def test_a_share_is_as_uncertain_as_the_binomial_says() -> None:
    hits = (np.arange(400) < 120).astype(float)
    found = interval(Bootstrap(400).mean(hits))
    assert found is not None
    # 1,000 resamples know the ends of the interval to a few percent of its width
    half = 1.96 * np.sqrt(0.3 * 0.7 / 400)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_figures_of_one_bootstrap_may_be_combined() -> None:
    values = np.random.default_rng(0).random(50)
    bootstrap = Bootstrap(50)
    doubled = bootstrap.mean(values) + bootstrap.mean(values)
    assert doubled == pytest.approx(2 * bootstrap.mean(values))
    assert len(doubled) == 1 + RESAMPLES


def test_items_without_a_value_are_left_out() -> None:
    values = np.array([np.nan, 1.0, np.nan, 3.0] * 10)
    found = interval(Bootstrap(40).mean(values))
    assert found is not None
    assert found.value == 2.0


@pytest.mark.parametrize("items", [0, 1, 5])
def test_without_any_value_there_is_no_interval(items: int) -> None:
    assert interval(Bootstrap(items).mean(np.full(items, np.nan))) is None


def test_the_same_items_give_the_same_interval() -> None:
    values = np.random.default_rng(1).random(30)
    assert interval(Bootstrap(30).mean(values)) == interval(Bootstrap(30).mean(values))
