"""Which concepts became more or less frequent: an exact test each, false discoveries bounded.

Given that a concept fired m times in both sets together, how many of those fell into the window is
binomial with the window's share of the items, if nothing changed: no rate need be known and none is
too small (Przyborowski and Wilenski 1940). Counts are divided by their design effect first, so that
a client's burst weighs what it knows; the binomial tail at such counts is the incomplete beta
function's. A rise must also stand without the window's largest block, a fall without the
reference's, but for what leaving out the largest of independent blocks would cost a true change.

More and less are hypotheses of their own; one that no outcome could show, given m, is not tested
(Tarone 1990; Gilbert 2005): most falls of rare concepts in small windows. The expected share of
false discoveries among the rest is bounded by Benjamini and Hochberg.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from koine.drift.counts import FireCounts
from koine.drift.dispersion import correlation, design_effect
from koine.drift.tails import beta_quantile, beta_tail

MARGIN = 0.25
"""Without its largest block, a true change of independent items loses up to a fifth of log p."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeConfig:
    """When a concept counts as changed."""

    false_discoveries: float = 0.05
    """Share of changed concepts that may be none, in the mean over windows."""
    least_ratio: float = 1.5
    """Rates that differ by less are no change, however sure."""
    least_fires: int = 10
    """Fires in both sets together below which a concept is not tested."""
    interval: float = 0.95
    """How often the interval of a changed concept's ratio holds the true one."""

    def __post_init__(self) -> None:
        if not 0 < self.false_discoveries < 1 or not 0 < self.interval < 1:
            raise ValueError("`false_discoveries` and `interval` lie between 0 and 1")
        if self.least_ratio < 1:
            raise ValueError(f"`least_ratio` is at least 1, got {self.least_ratio}")


class Changes(NamedTuple):
    """What became of each concept."""

    tested_C: Bool[np.ndarray, "C"]
    changed_C: Bool[np.ndarray, "C"]
    p_C: Float64[np.ndarray, "C"]
    """Two-sided; 1 where not tested."""
    q_C: Float64[np.ndarray, "C"]
    """Least share of false discoveries at which it would count as changed."""
    rate_then_C: Float64[np.ndarray, "C"]
    rate_now_C: Float64[np.ndarray, "C"]
    ratio_C: Float64[np.ndarray, "C"]
    """Rate now over rate then; half a fire is added to both, so that it is finite."""
    low_C: Float64[np.ndarray, "C"]
    high_C: Float64[np.ndarray, "C"]
    """Interval of the ratio; wider where many concepts were looked at (Benjamini and Yekutieli
    2005)."""
    dispersion_C: Float64[np.ndarray, "C"]
    """Design effect in the window."""
    dispersion_then_C: Float64[np.ndarray, "C"]
    """The same in the reference."""
    error_C: Float64[np.ndarray, "C"]
    """Standard error of the ratio's logarithm."""


def concept_changes(then: FireCounts, now: FireCounts, config: ChangeConfig) -> Changes:
    """Compares the window `now` with the reference `then`; both have items."""
    assert then.items > 0
    assert now.items > 0
    # blocks of many clients are less alike inside than those of one, so each side has its own
    effect_then_C, effect_now_C = (design_effect(each, correlation(each)) for each in (then, now))
    a = _Effective(then, effect_then_C)
    b = _Effective(now, effect_now_C)
    tested_C = then.fires_C.astype(np.int64) + now.fires_C >= config.least_fires
    p_2C = np.where(tested_C, [_rise(a, b), _rise(b, a)], 1.0)
    least_2C = np.where(tested_C, [_least(a, b), _least(b, a)], 1.0)
    possible_2C = could_show(least_2C.ravel(), config.false_discoveries)
    q_C = q_values(p_2C.ravel(), possible_2C).reshape(p_2C.shape).min(0)
    p_C = np.minimum(1.0, 2 * p_2C.min(0))
    ratio_C = ((now.fires_C + 0.5) / now.items) / ((then.fires_C + 0.5) / then.items)
    far_C = np.abs(np.log(ratio_C)) >= np.log(config.least_ratio)
    changed_C = tested_C & far_C & (q_C <= config.false_discoveries)
    error_C = np.sqrt(effect_now_C / (now.fires_C + 0.5) + effect_then_C / (then.fires_C + 0.5))
    share = max(int(changed_C.sum()), 1) / max(int(tested_C.sum()), 1)
    low_C, high_C = _interval(a, b, (1 - config.interval) * share)
    return Changes(
        tested_C,
        changed_C,
        p_C,
        q_C,
        then.fires_C / then.items,
        now.fires_C / now.items,
        ratio_C,
        low_C,
        high_C,
        effect_now_C,
        effect_then_C,
        error_C,
    )


class _Effective:
    """Counts as of independent items, whole and without the largest block."""

    def __init__(self, counts: FireCounts, effect_C: np.ndarray) -> None:
        self.effect_C = effect_C
        self.items_C = counts.items / effect_C
        self.fires_C = counts.fires_C / effect_C
        several = counts.blocks > 1
        self.others_items_C = (counts.items - several * counts.largest_items_C) / effect_C
        self.others_fires_C = (counts.fires_C - several * counts.largest_C) / effect_C


def _rise(then: _Effective, now: _Effective) -> np.ndarray:
    """How likely at least so many of the fires fall into `now`, had nothing changed."""
    whole_C = _tail(then.fires_C, then.items_C, now.fires_C, now.items_C)
    others_C = _tail(then.fires_C, then.items_C, now.others_fires_C, now.others_items_C)
    return np.maximum(whole_C, others_C ** (1 + MARGIN / now.effect_C))


def _least(then: _Effective, now: _Effective) -> np.ndarray:
    """The least that `_rise` could be: all fires in `now`."""
    share_C = now.items_C / (then.items_C + now.items_C)
    return share_C ** (then.fires_C + now.fires_C)


def could_show(least_H: np.ndarray, error: float) -> np.ndarray:
    """Hypotheses that some outcome would reject among those that are left (Tarone 1990).

    `least_H`: the least p-value of each. With K the smallest number so that at most K of them
    reach error / K, those.
    """
    ordered_H = np.sort(least_H)
    count_H = np.arange(1, len(least_H) + 1)
    enough_H = np.searchsorted(ordered_H, error / count_H, side="right") <= count_H
    fewest = int(count_H[enough_H][0]) if enough_H.any() else len(least_H)
    return least_H <= error / fewest


def _tail(
    fires_then_C: np.ndarray,
    items_then_C: np.ndarray,
    fires_now_C: np.ndarray,
    items_now_C: np.ndarray,
) -> np.ndarray:
    """P(X >= x), X binomial(m, share): I_share(x, m - x + 1), 1 at x = 0."""
    share_C = items_now_C / (items_then_C + items_now_C)
    some_C = fires_now_C > 0
    tail_C = beta_tail(np.where(some_C, fires_now_C, 1), fires_then_C + 1, share_C)
    return np.where(some_C, tail_C, 1.0)


def q_values(p_C: np.ndarray, tested_C: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's q-values of what was tested, 1 elsewhere."""
    q_C = np.ones_like(p_C)
    places_M = np.flatnonzero(tested_C)
    if not len(places_M):
        return q_C
    order_M = places_M[np.argsort(p_C[places_M], kind="stable")]
    scaled_M = p_C[order_M] * len(order_M) / np.arange(1, len(order_M) + 1)
    q_C[order_M] = np.minimum(np.minimum.accumulate(scaled_M[::-1])[::-1], 1)
    return q_C


def _interval(then: _Effective, now: _Effective, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the ratio, from Clopper and Pearson's of the share of fires that fell into the window."""
    x_C, y_C = now.fires_C, then.fires_C
    low_C = np.where(x_C > 0, beta_quantile(np.maximum(x_C, 1e-9), y_C + 1, alpha / 2), 0)
    high_C = np.where(y_C > 0, beta_quantile(x_C + 1, np.maximum(y_C, 1e-9), 1 - alpha / 2), 1)
    scale_C = then.items_C / now.items_C
    with np.errstate(divide="ignore"):
        return low_C / (1 - low_C) * scale_C, high_C / (1 - high_C) * scale_C
