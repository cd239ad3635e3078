"""How much alike the items of a block are, and how many independent items they amount to.

Within blocks, counts are taken as beta-binomial: Var x_b = n_b p (1 - p) (1 + (n_b - 1) ρ), where ρ
is the correlation of two items of a block. From

    Q = Σ_b (x_b - p n_b)²,   E Q = p (1 - p) (base + ρ slope)

follows each concept's ρ; since that of a rare concept says little, each is drawn towards the mean
of all by how uncertain it is (empirical Bayes), and taken one standard deviation above.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from koine.drift.counts import FireCounts

MOST = 0.95
"""Above this the items of a block are one item, and the estimate is of no use."""


class _Moments(NamedTuple):
    excess_C: np.ndarray
    """Q / (p (1 - p)) - base; `slope` times ρ in the mean."""
    slope: float
    noise_C: np.ndarray
    """Its variance where ρ is 0."""


def correlation(counts: FireCounts) -> Float64[np.ndarray, "C"]:
    """ρ of each concept; 0 where there are too few blocks to tell."""
    found = _moments(counts)
    if counts.blocks < 2 or found.slope <= 0:
        return np.zeros(len(counts.fires_C))
    larger = counts.block_cubes / counts.block_squares - 1
    return _shrunk(found.excess_C / found.slope, found.noise_C / found.slope**2, larger)


def design_effect(
    counts: FireCounts, correlation_C: Float64[np.ndarray, "C"]
) -> Float64[np.ndarray, "C"]:
    """By how much the variance of a count is larger than for independent items (Kish)."""
    if not counts.items:
        return np.ones_like(correlation_C)
    alike = counts.block_squares / counts.items - 1
    return 1 + correlation_C * alike


def _moments(counts: FireCounts) -> _Moments:
    n, s2, s3 = counts.items, counts.block_squares, counts.block_cubes
    p_C = counts.fires_C / n
    q_C = (
        counts.fire_squares_C.astype(np.float64)
        - 2 * p_C * counts.fire_items_C.astype(np.float64)
        + p_C**2 * s2
    )
    base = n - s2 / n
    slope = s2 - n - 2 * (s3 - s2) / n + s2 * (s2 - n) / n**2
    spread_C = p_C * (1 - p_C)
    known_C = spread_C > 0
    safe_C = np.where(known_C, spread_C, 1)
    return _Moments(
        np.where(known_C, q_C / safe_C - base, 0),
        max(slope, 0.0),
        np.where(known_C, 2 * s2 + n / safe_C, np.inf),
    )


def _shrunk(raw_C: np.ndarray, noise_C: np.ndarray, larger: float) -> np.ndarray:
    """`larger`: items of a block but one, in the mean over blocks weighed as Q's variance does."""
    weight_C = np.where(np.isfinite(noise_C), 1 / noise_C, 0)
    if not weight_C.any():
        return np.zeros_like(raw_C)
    mean = max(0.0, float(np.average(raw_C, weights=weight_C)))
    # alike items make a few large blocks' squares vary by the square of their design effect
    noise_C = noise_C * (1 + mean * larger) ** 2
    weight_C = np.where(weight_C > 0, 1 / noise_C, 0)
    left_C = np.where(weight_C > 0, (raw_C - mean) ** 2 - np.where(weight_C > 0, noise_C, 0), 0)
    between = max(0.0, float(np.average(left_C, weights=weight_C)))
    trust_C = np.where(weight_C > 0, between / (between + np.where(weight_C > 0, noise_C, 1)), 0)
    above_C = np.sqrt(between * (1 - trust_C))
    return np.clip(mean + trust_C * (raw_C - mean) + above_C, 0, MOST)
