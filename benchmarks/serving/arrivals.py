"""When requests are due, whatever the server does; sends nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import takewhile

BURST_PERIOD_S = 10.0
BURST_SHARE = 0.2
"""Part of each period in which a bursty stream of arrivals arrives."""


def poisson(rate: float, seed: int) -> Iterator[float]:
    """Seconds from the start at which requests are due, without end: gaps are exponential.

    ValueError for a rate that is not above 0.
    """
    if not rate > 0:
        raise ValueError(f"an arrival rate must be above 0 a second, got {rate}")
    rng = random.Random(seed)
    at = 0.0
    while True:
        at += rng.expovariate(rate)
        yield at


def bursts(rate: float, seed: int) -> Iterator[float]:
    """The same mean rate, all of it in the first fifth of every ten seconds."""
    on_s = BURST_PERIOD_S * BURST_SHARE
    for at in poisson(rate / BURST_SHARE, seed):
        period, within_s = divmod(at, on_s)
        yield period * BURST_PERIOD_S + within_s


def schedule(rate: float, seconds: float, seed: int) -> list[float]:
    """The Poisson arrivals of the first `seconds`."""
    return list(takewhile(lambda at: at < seconds, poisson(rate, seed)))
