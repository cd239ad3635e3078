"""Evidently's default for columns of activations, 0 where a concept is inactive: the Wasserstein
distance of the two columns over the reference's standard deviation. Made values whose spread is
the same everywhere; only how often a concept is active differs.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import scipy.stats  # pyright: ignore[reportMissingTypeStubs]

from benchmarks.monitoring.peers import EVIDENTLY, Found
from benchmarks.monitoring.traffic import Fires

_stats = cast("Any", scipy.stats)
SPREAD = 0.5
"""Standard deviation of an activation's logarithm."""
FEWEST = 5
"""Activations below which Evidently takes the column for one of categories; their distance is far
below its border."""


def activations(fires: int, rng: np.random.Generator) -> np.ndarray:
    """Of that many items in which a concept is active."""
    return rng.lognormal(0, SPREAD, fires).astype(np.float32)


def evidently_values(then: Fires, now: Fires, seed: int) -> Found:
    """Scores of columns in which each item's activation stands."""
    rng = np.random.default_rng(seed)
    scores = [
        score(activations(int(a), rng), then.items, activations(int(b), rng), now.items)
        for a, b in zip(then.fires_C, now.fires_C, strict=True)
    ]
    score_C = np.array(scores)
    return Found(score_C >= EVIDENTLY, score_C)


def score(a: np.ndarray, a_items: int, b: np.ndarray, b_items: int) -> float:
    """Of a column whose values that are not 0 are `a` and `b`."""
    if len(a) + len(b) < FEWEST:
        return 0.0
    mean = a.sum(dtype=np.float64) / a_items
    spread = ((a.astype(np.float64) ** 2).sum() / a_items - mean**2) ** 0.5
    found = _stats.wasserstein_distance(
        np.append(a, 0),
        np.append(b, 0),
        np.append(np.ones(len(a)), a_items - len(a)),
        np.append(np.ones(len(b)), b_items - len(b)),
    )
    return float(found) / max(spread, 0.001)
