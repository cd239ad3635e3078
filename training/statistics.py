"""Per-stream mean and scale of the training rows, streamed in float64 at bounded memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from koine.errors import TrainingError
from training.activations.store import ActivationStore
from training.unit import UNIT_NORM_EPS

MAX_ROWS = 200_000
"""Rows that the statistics are taken from; evenly spread over the training rows."""
CHUNK_ROWS = 4096


class StreamStatistics(NamedTuple):
    """Of unit-norm activations."""

    mean_D: Float64[np.ndarray, "D"]
    variance: float
    """Mean squared distance from the mean, summed over dimensions."""


def stream_statistics(store: ActivationStore) -> dict[str, StreamStatistics]:
    """Mean and variance of each stream; TrainingError where a stream has no or constant rows."""
    rows = store.split("train")
    if len(rows) == 0:
        raise TrainingError("the store has no training rows: give its items a `train` split")
    rows = rows[:: max(1, len(rows) // MAX_ROWS)]
    widths = {stream.name: stream.d_in for stream in store.streams}
    sums = {name: np.zeros(d_in) for name, d_in in widths.items()}
    squares = dict.fromkeys(widths, 0.0)
    counts = dict.fromkeys(widths, 0)
    for start in range(0, len(rows), CHUNK_ROWS):
        batch = store.gather(rows[start : start + CHUNK_ROWS], None)
        for column, name in enumerate(widths):
            acts_ND = batch.acts[name][batch.present_NS[:, column]].astype(np.float64)
            unit_ND = acts_ND / (np.linalg.norm(acts_ND, axis=1, keepdims=True) + UNIT_NORM_EPS)
            sums[name] += unit_ND.sum(0)
            squares[name] += float(np.square(unit_ND).sum())
            counts[name] += len(unit_ND)
    return {name: _finish(name, sums[name], squares[name], counts[name]) for name in widths}


def _finish(
    name: str, sum_D: Float64[np.ndarray, "D"], squares: float, count: int
) -> StreamStatistics:
    if count == 0:
        raise TrainingError(f"no training row has stream `{name}`: leave it out of the recipe")
    mean_D = sum_D / count
    variance = squares / count - float(mean_D @ mean_D)
    if variance < 1e-12:
        raise TrainingError(
            f"stream `{name}` is constant over {count} training rows: nothing can be learned "
            "from it; check its encoder or leave it out"
        )
    return StreamStatistics(mean_D, variance)
