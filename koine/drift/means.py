"""Means of numbers that items have (fvu, concepts active, agreement of two streams), kept so that
they can be compared later; knows nothing of concepts.

As for fires, sums over blocks of alike items tell how sure a mean is (ratio estimator, Cochran 1977
chapter 6): Var m = K / (K - 1) Σ_b (s_b - m n_b)² / n², where K = n² / Σ_b n_b² is how many blocks
of equal size tell as much: a few large ones are few, however many small ones stand beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64

from koine.drift.tails import student_quantile, student_tail


@dataclass(frozen=True, slots=True)
class MeanCounts:
    """Sums over blocks b of n_b items whose numbers add up to s_b."""

    items: int = 0
    """Σ n_b."""
    blocks: int = 0
    block_squares: int = 0
    """Σ n_b²."""
    sum: float = 0.0
    """Σ s_b."""
    squares: float = 0.0
    """Σ s_b²."""
    sum_items: float = 0.0
    """Σ s_b n_b."""

    @classmethod
    def of(cls, values_N: Float[np.ndarray, "N"], block_N: Int64[np.ndarray, "N"]) -> MeanCounts:
        """Numbers of items whose blocks are these; what is not finite is left out."""
        known_N = np.isfinite(values_N)
        _, place_N, n_B = np.unique(block_N[known_N], return_inverse=True, return_counts=True)
        s_B = np.bincount(place_N, values_N[known_N].astype(np.float64), minlength=len(n_B))
        return cls.of_blocks(n_B, s_B.astype(np.float64))  # of nothing, bincount counts

    @classmethod
    def of_blocks(
        cls, items_B: Int64[np.ndarray, "B"], sums_B: Float64[np.ndarray, "B"]
    ) -> MeanCounts:
        """Sums of whole blocks of so many items."""
        return cls(
            int(items_B.sum()),
            len(items_B),
            int((items_B**2).sum()),
            float(sums_B.sum()),
            float((sums_B**2).sum()),
            float((sums_B * items_B).sum()),
        )

    def __add__(self, other: MeanCounts) -> MeanCounts:
        """Both together; their blocks are different ones."""
        return MeanCounts(
            self.items + other.items,
            self.blocks + other.blocks,
            self.block_squares + other.block_squares,
            self.sum + other.sum,
            self.squares + other.squares,
            self.sum_items + other.sum_items,
        )

    @property
    def mean(self) -> float:
        """NaN without items."""
        return self.sum / self.items if self.items else float("nan")

    @property
    def equal_blocks(self) -> float:
        """K, how many blocks of equal size tell as much: 1 of a single one."""
        return self.items**2 / self.block_squares if self.block_squares else 0.0

    @property
    def variance(self) -> float:
        """Of the mean; NaN with fewer than two blocks."""
        if self.blocks < 2:
            return float("nan")
        k = self.equal_blocks
        m = self.mean
        left = self.squares - 2 * m * self.sum_items + m**2 * self.block_squares
        return max(left, 0.0) / self.items**2 * k / (k - 1)


class MeanChange(NamedTuple):
    """How a mean moved."""

    then: float
    now: float
    low: float
    """Interval of now - then."""
    high: float
    p: float
    """Two-sided; NaN where a side has fewer than two blocks."""


def mean_change(then: MeanCounts, now: MeanCounts, interval: float = 0.95) -> MeanChange:
    """Welch's test of two means of blocks."""
    moved = now.mean - then.mean
    variances = (then.variance, now.variance)
    if not np.isfinite(variances).all():
        return MeanChange(then.mean, now.mean, float("nan"), float("nan"), float("nan"))
    variance = sum(variances)
    if variance == 0:
        return MeanChange(then.mean, now.mean, moved, moved, 1.0 if moved == 0 else 0.0)
    parts = sum(
        v**2 / (counts.equal_blocks - 1) for v, counts in zip(variances, (then, now), strict=True)
    )
    freedom = variance**2 / parts
    error = variance**0.5
    reach = student_quantile((1 + interval) / 2, freedom) * error
    p = 2 * student_tail(abs(moved) / error, freedom)
    return MeanChange(then.mean, now.mean, moved - reach, moved + reach, p)
