"""Percentiles, ratios of interleaved runs and a search for the highest rate; measures nothing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed (nearest rank).

    ValueError without values or beyond 0 to 100.
    """
    if not values:
        raise ValueError("no values, so there is no percentile; measure for longer")
    if not 0 <= percent <= 100:
        raise ValueError(f"a percentile lies between 0 and 100, got {percent}")
    rank = max(1, math.ceil(len(values) * percent / 100))
    return sorted(values)[rank - 1]


class Compared(NamedTuple):
    """Two subjects measured in turns."""

    ours: float
    """Median."""
    baseline: float
    """Median."""
    ratio: float
    """Median of the ratios of neighbours in time."""
    spread: float
    """Standard deviation of those ratios."""


def compared(ours: Sequence[float], baseline: Sequence[float]) -> Compared:
    """Of measurements in pairs that were taken side by side."""
    ratios = [a / b if b else math.inf for a, b in zip(ours, baseline, strict=True)]
    return Compared(
        statistics.median(ours),
        statistics.median(baseline),
        statistics.median(ratios),
        statistics.pstdev(ratios) if all(map(math.isfinite, ratios)) else math.inf,
    )


def in_turns(ours: Callable[[], float], baseline: Callable[[], float], rounds: int) -> Compared:
    """Measures `rounds` pairs as ABBA…, so that a drift of the machine falls on both alike."""
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        order = (0, 1) if turn % 2 == 0 else (1, 0)
        for which in order:
            found[which].append((ours, baseline)[which]())
    return compared(*found)


def highest_rate(passes: Callable[[float], bool], start: float, *, within: float = 0.05) -> float:
    """The highest rate that passes, to `within` of itself, looked for from `start` on.

    0 where not even a sixteenth of `start` passes.
    """
    low, high, rate = 0.0, math.inf, start
    while high - low > within * high or high == math.inf:
        if passes(rate):
            low = rate
        else:
            high = rate
        if not low and high < start / 16:
            return 0.0
        rate = low * 1.5 if high == math.inf else (low + high) / 2
    return low


def share_of(counted: float, wanted: float) -> float:
    """How near a count is to what it must be: 1 only where they are equal."""
    if counted == wanted:
        return 1.0
    smaller, larger = sorted((max(counted, 0.0), max(wanted, 0.0)))
    return smaller / larger
