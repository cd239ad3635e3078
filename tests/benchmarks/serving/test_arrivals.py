"""Schedules: the same for a seed, at the rate asked for, and bursts within their share."""

from __future__ import annotations

import statistics
from itertools import islice, pairwise

import pytest

from benchmarks.serving.arrivals import BURST_PERIOD_S, BURST_SHARE, bursts, poisson, schedule


def test_arrivals_come_at_the_rate_asked_for_and_repeat_by_seed() -> None:
    due = schedule(50.0, 200.0, seed=3)
    # 10,000 expected, standard deviation 100
    assert len(due) == pytest.approx(10_000, abs=500)
    assert due == sorted(due)
    assert due[-1] < 200
    assert due == schedule(50.0, 200.0, seed=3)
    assert due != schedule(50.0, 200.0, seed=4)


def test_gaps_are_exponential() -> None:
    gaps = [b - a for a, b in pairwise(schedule(100.0, 100.0, seed=0))]
    # mean and standard deviation of an exponential gap are equal; 10,000 gaps
    assert statistics.pstdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.05)


def test_bursts_keep_the_mean_rate_and_their_share_of_the_period() -> None:
    due = list(islice(bursts(20.0, seed=1), 20_000))
    assert len(due) / due[-1] == pytest.approx(20.0, rel=0.05)
    assert max(at % BURST_PERIOD_S for at in due) <= BURST_PERIOD_S * BURST_SHARE


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_must_be_above_0(rate: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        schedule(rate, 1.0, seed=0)
    with pytest.raises(ValueError, match="above 0"):
        next(poisson(rate, seed=0))
