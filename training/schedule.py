"""Which rows, captions and streams a step trains on, and how fast: functions of (seed, step).

Every draw comes from a generator seeded by what it is for and when, so a resumed run continues
exactly where it was, with no generator state to save.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from training.configs import FitConfig
from training.permutation import shuffled

_ORDER, _CAPTIONS, _DROPOUT = 0, 1, 2


class StepRows(NamedTuple):
    """What one step reads."""

    rows_N: Int64[np.ndarray, "N"]
    """Store rows."""
    draws_N: Float64[np.ndarray, "N"]
    """In [0, 1): which of a row's captions is taken."""


def step_rows(rows: Int64[np.ndarray, "R"], step: int, config: FitConfig) -> StepRows:
    """The batch of step `step` (from 0). An epoch's last partial batch is dropped."""
    size = min(config.batch_size, len(rows))
    per_epoch = len(rows) // size
    epoch, batch = divmod(step, per_epoch)
    key = (config.seed, _ORDER, epoch)
    if config.shuffle == "rows":
        places_N = shuffled(len(rows), key, batch * size, (batch + 1) * size)
    else:
        places_N = shuffled(per_epoch, key, batch, batch + 1) * size + np.arange(size)
    rng = np.random.default_rng((config.seed, _CAPTIONS, step))
    return StepRows(rows[places_N], rng.random(size))


def selecting_streams(
    present_NS: Bool[np.ndarray, "N S"], step: int, config: FitConfig
) -> Bool[np.ndarray, "N S"]:
    """Which streams choose each item's support: all present, or one at random.

    A share `stream_dropout` of the items is chosen for by one of its present streams alone, which
    is what serving does when only that stream arrives.
    """
    if config.stream_dropout == 0 or present_NS.shape[1] == 1:
        return present_NS
    rng = np.random.default_rng((config.seed, _DROPOUT, step))
    alone_N = rng.random(len(present_NS)) < config.stream_dropout
    luck_NS = np.where(present_NS, rng.random(present_NS.shape), -1.0)
    one_NS = np.zeros_like(present_NS)
    one_NS[np.arange(len(present_NS)), luck_NS.argmax(1)] = True
    return np.where(alone_N[:, None], one_NS & present_NS, present_NS)


def counted_items(
    selecting_NS: Bool[np.ndarray, "N S"], present_NS: Bool[np.ndarray, "N S"]
) -> Bool[np.ndarray, "N"]:
    """Items that tell dead latents: chosen for by all their streams; all where no item is."""
    joint_N = (selecting_NS == present_NS).all(1)
    return joint_N if joint_N.any() else ~joint_N


def lr_factor(step: int, total: int, config: FitConfig) -> float:
    """Share of the peak rate: linear warm-up, constant, linear decay to 0; `step` from 0."""
    up, down = config.warmup * total, config.decay * total
    factor = min(1.0, (step + 1) / up) if up > 0 else 1.0
    if down > 0:
        factor = min(factor, (total - step) / down)
    return factor
