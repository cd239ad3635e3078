"""How far a figure would move with other items: intervals by resampling them; knows no figure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped

RESAMPLES = 1000
LEVEL = 0.95
"""Share of the resampled figures that an interval holds."""


class Interval(NamedTuple):
    """A figure over items, and where it would lie with other items of the same kind."""

    value: float
    low: float
    high: float


class Bootstrap:
    """The same resamples of N items for every figure, so that figures may be combined.

    A figure is a vector of `1 + RESAMPLES` values: of the items themselves, then of each resample
    (drawn with replacement). Sums, ratios and means of such vectors are figures again.
    Memory: 8 (1 + RESAMPLES) N bytes.
    """

    def __init__(self, items: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self._counts_RN = np.ones((1 + RESAMPLES, items))
        for counts_N in self._counts_RN[1:] if items else ():
            counts_N[:] = np.bincount(random.integers(items, size=items), minlength=items)

    def ratio(
        self, over_N: Shaped[np.ndarray, "N"], under_N: Shaped[np.ndarray, "N"]
    ) -> Float64[np.ndarray, "R"]:
        """Σ over / Σ under of every resample; NaN where there is nothing below the line."""
        over_R, under_R = self._counts_RN @ over_N, self._counts_RN @ under_N
        return np.divide(over_R, under_R, out=np.full(len(over_R), np.nan), where=under_R > 0)

    def mean(self, values_N: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "R"]:
        """Mean over the items whose value is known (not NaN)."""
        known_N = ~np.isnan(values_N)
        return self.ratio(np.where(known_N, values_N, 0.0), known_N)


def interval(figure_R: Float64[np.ndarray, "R"]) -> Interval | None:
    """Estimate and percentile interval; None where the figure or most resamples have no value."""
    draws = figure_R[1:][~np.isnan(figure_R[1:])]
    if np.isnan(figure_R[0]) or len(draws) < RESAMPLES / 2:
        return None
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Interval(float(figure_R[0]), float(low), float(high))
