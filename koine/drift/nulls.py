"""How far windows lie from the reference when nothing changes, measured on the reference itself.

A distance between two sets of counts is above 0 for any window, more so the smaller it is. What is
usual is drawn from the reference's own blocks (block bootstrap) at several window sizes, once, when
the reference is made; between the sizes it is interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32, Int64

from koine.drift.tails import relative_entropy

SIZES = (250, 500, 1000, 2000, 5000, 10000, 20000)
"""Items of the windows that are drawn."""
QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99)
ROUNDS = 400


@dataclass(frozen=True, slots=True)
class Null:
    """Quantiles of the distance of windows that are like the reference."""

    sizes_W: Float64[np.ndarray, "W"]
    quantiles_WQ: Float64[np.ndarray, "W Q"]

    def quantile(self, items: float | int, which: float) -> float:
        """The distance that a share `which` of windows of so many items stays below.

        Beyond the sizes that were drawn it goes with 1 / √items, as noise does.
        """
        column_W = self.quantiles_WQ[:, QUANTILES.index(which)]
        smallest, largest = float(self.sizes_W[0]), float(self.sizes_W[-1])
        inside = min(max(items, smallest), largest)
        found = np.interp(math.log(inside), np.log(self.sizes_W), column_W)
        return float(found) * (inside / items) ** 0.5


def js_distance(then_C: Float64[np.ndarray, "C"], now_C: Float64[np.ndarray, "C"]) -> float:
    """Jensen-Shannon distance (base 2, 0 to 1) of two ways to spread fires over concepts."""
    then, now = float(then_C.sum()), float(now_C.sum())
    if not then or not now:
        return math.nan
    p_C, q_C = then_C / then, now_C / now
    mean_C = (p_C + q_C) / 2
    nats = (relative_entropy(p_C, mean_C) + relative_entropy(q_C, mean_C)) / 2
    return max(nats / math.log(2), 0.0) ** 0.5


def measure_null(
    indices_NK: Int32[np.ndarray, "N K"],
    block_N: Int64[np.ndarray, "N"],
    num_concepts: int,
    *,
    seed: int,
    sizes: Sequence[int] = SIZES,
) -> Null:
    """Draws windows of whole blocks and measures each against the rest of the reference.

    `block_N`: which block each item belongs to. Sizes above half of the reference are left out.
    """
    rng = np.random.default_rng(seed)
    _, place_N, items_B = np.unique(block_N, return_inverse=True, return_counts=True)
    total_C = _fires(indices_NK, num_concepts)
    kept = [size for size in sizes if size <= len(block_N) / 2] or [max(1, len(block_N) // 2)]
    quantiles: list[np.ndarray] = []
    for size in kept:
        distances: list[float] = []
        for _ in range(ROUNDS):
            chosen_N = _draw(items_B, size, rng)[place_N]
            window_C = _fires(indices_NK[chosen_N], num_concepts)
            # whole blocks overshoot; noise goes with 1 / √items
            scale = (chosen_N.sum() / size) ** 0.5
            distances.append(js_distance(total_C - window_C, window_C) * scale)
        quantiles.append(np.nanquantile(np.array(distances), QUANTILES))
    return Null(np.array(kept, np.float64), np.stack(quantiles))


def _draw(items_B: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Blocks of about `size` items together, without return."""
    order_B = rng.permutation(len(items_B))
    count = int(np.searchsorted(np.cumsum(items_B[order_B]), size)) + 1
    chosen_B = np.zeros(len(items_B), bool)
    chosen_B[order_B[:count]] = True
    return chosen_B


def _fires(indices_NK: np.ndarray, num_concepts: int) -> np.ndarray:
    # PAD is -1
    return np.bincount(indices_NK.ravel() + 1, minlength=num_concepts + 1)[1:].astype(np.float64)
