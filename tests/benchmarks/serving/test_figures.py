"""Percentiles, ratios in turns, the search for a rate."""

from __future__ import annotations

import math

import pytest

from benchmarks.serving.figures import compared, highest_rate, in_turns, percentile, share_of


def test_percentiles_are_values_that_occurred() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, p) for p in (0, 20, 21, 50, 99, 100)] == [1, 1, 2, 3, 5, 5]
    assert percentile([float(n) for n in range(1, 101)], 99) == 99
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
    with pytest.raises(ValueError, match="between 0 and 100"):
        percentile(values, 101)


def test_the_ratio_is_the_median_of_neighbours() -> None:
    found = compared([10.0, 20.0, 90.0], [5.0, 10.0, 10.0])
    assert (found.ours, found.baseline, found.ratio) == (20.0, 10.0, 2.0)
    assert found.spread == pytest.approx(math.sqrt(98 / 9))
    assert compared([1.0], [0.0]).ratio == math.inf


def test_subjects_take_turns() -> None:
    order: list[str] = []

    def measure(name: str, value: float) -> float:
        order.append(name)
        return value

    found = in_turns(lambda: measure("a", 3.0), lambda: measure("b", 2.0), 3)
    assert "".join(order) == "abbaab"
    assert found.ratio == 1.5


@pytest.mark.parametrize("limit", [3.0, 10.0, 55.0, 400.0])
def test_the_highest_rate_is_found_from_below_and_from_above(limit: float) -> None:
    tried: list[float] = []

    def passes(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    found = highest_rate(passes, 40.0)
    assert 0.94 * limit <= found <= limit
    assert found in tried, "a rate that was measured, not one between"
    assert len(tried) < 15


def test_nothing_that_passes_is_0() -> None:
    tried: list[float] = []
    assert highest_rate(lambda rate: bool(tried.append(rate)), 64.0) == 0.0
    assert len(tried) < 8


def test_counting_too_much_is_as_wrong_as_too_little() -> None:
    assert share_of(7, 7) == share_of(0, 0) == 1.0
    assert share_of(8, 10) == share_of(10, 8) == 0.8
    assert share_of(3, 0) == share_of(-1, 5) == 0.0
