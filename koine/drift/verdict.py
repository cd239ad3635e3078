"""One stream's window against its reference: a state, the concepts that changed, the statistics.

Judges one window; whether an alarm follows is `koine/drift/alarm.py`'s to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from koine.drift.changes import ChangeConfig, Changes, concept_changes
from koine.drift.cofiring import ChangedPair, changed_pairs
from koine.drift.counts import FireCounts
from koine.drift.means import MeanCounts, mean_change
from koine.drift.nulls import js_distance
from koine.profile import StreamProfile

State = Literal["ok", "drift", "insufficient_data", "no_reference"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftConfig:
    """When a window differs from its reference."""

    changes: ChangeConfig = field(default_factory=ChangeConfig)
    pairs: ChangeConfig = ChangeConfig(false_discoveries=0.01, least_ratio=2.0)
    """The same of pairs of frequent concepts, more strictly: they come on top."""
    least_items: int = 200
    """Different items below which a window gets no verdict."""
    least_blocks: int = 5
    """Blocks (clients, stretches of time) below which it gets none: one client is not the world."""
    statistics_error: float = 0.01
    """Chance that one of the statistics alarms where nothing changed, all of them together."""
    least_fvu_shift: float = 0.02
    """Change of the mean fvu that counts, however sure a smaller one is."""
    least_l0_shift: float = 0.05
    """The same of the mean number of active concepts, as a share of the reference's."""
    least_agreement_shift: float = 0.03
    """The same of the mean Jaccard of two streams of the same items."""


class ChangedConcept(NamedTuple):
    """A concept whose rate changed."""

    id: int
    ratio: float
    low: float
    high: float
    rate_then: float
    rate_now: float
    q: float
    kind: Literal["more", "less", "new", "vanished"]


class Statistic(NamedTuple):
    """A number of the whole window."""

    name: str
    then: float
    now: float
    p: float
    """NaN where a threshold takes its place."""
    threshold: float
    """Of p, or of `now` itself for a distance."""
    drifted: bool


class Verdict(NamedTuple):
    """What became of a stream."""

    state: State
    reason: str
    items: int
    blocks: int
    dispersion: float
    """Design effect, mean over fires: how many items of the window say what one alone would."""
    tested: int
    concepts: tuple[ChangedConcept, ...]
    """Largest change first, by the interval's end nearer to none."""
    statistics: tuple[Statistic, ...]
    changes: Changes | None
    """Of every concept, None where there is no verdict."""
    pairs: tuple[ChangedPair, ...] = ()
    """Concepts that meet more or less often, which their own changes do not explain."""


def judge(then: StreamProfile | None, now: StreamProfile, config: DriftConfig) -> Verdict:
    """The verdict on a stream's window. Pure: the same counts give the same verdict."""
    items, blocks = now.fires.items, now.fires.blocks
    if then is None or not then.fires.items:
        return _none("no_reference", "there is no reference to compare with", items, blocks)
    if items < config.least_items or blocks < config.least_blocks:
        reason = (
            f"{items} different items from {blocks} clients or stretches of time; needs "
            f"{config.least_items} from {config.least_blocks}"
        )
        return _none("insufficient_data", reason, items, blocks)
    changes = concept_changes(then.fires, now.fires, config.changes)
    dispersion = _mean(changes.dispersion_C, now.fires)
    noisier = dispersion / _mean(changes.dispersion_then_C, now.fires)
    statistics = tuple(_statistics(then, now, noisier, config))
    concepts = _changed(changes, then.fires, now.fires)
    pairs = changed_pairs(then.cofiring, now.cofiring, changes, config.pairs)
    drifted = [one.name for one in statistics if one.drifted]
    state: State = "drift" if concepts or pairs or drifted else "ok"
    parts = [f"{len(concepts)} concepts changed"] if concepts else []
    parts += [f"{len(pairs)} pairs of concepts changed"] if pairs else []
    parts += [f"{name} moved" for name in drifted]
    reason = " and ".join(parts) or "nothing changed beyond chance"
    return Verdict(
        state,
        reason,
        items,
        blocks,
        dispersion,
        int(changes.tested_C.sum()),
        concepts,
        statistics,
        changes,
        pairs,
    )


def agreement_statistic(then: MeanCounts, now: MeanCounts, config: DriftConfig) -> Statistic:
    """Whether two streams of the same items say the same as often as they did."""
    return _moved("agreement", then, now, config.least_agreement_shift, config.statistics_error)


def _none(state: State, reason: str, items: int, blocks: int) -> Verdict:
    return Verdict(state, reason, items, blocks, math.nan, 0, (), (), None)


def _mean(dispersion_C: np.ndarray, now: FireCounts) -> float:
    """Over fires."""
    weight_C = now.fires_C.astype(np.float64)
    return float(np.average(dispersion_C, weights=weight_C)) if weight_C.any() else 1.0


def _statistics(
    then: StreamProfile, now: StreamProfile, noisier: float, config: DriftConfig
) -> Sequence[Statistic]:
    """`noisier`: the window's dispersion over the reference's."""
    each = config.statistics_error / 3
    least_l0 = config.least_l0_shift * then.l0.mean
    found = [
        _moved("fvu", then.fvu, now.fvu, config.least_fvu_shift, each),
        _moved("l0", then.l0, now.l0, least_l0, each),
    ]
    if then.null is not None:
        distance = js_distance(
            then.fires.fires_C.astype(np.float64), now.fires.fires_C.astype(np.float64)
        )
        # the null knows the reference's blocks; larger ones make a window as noisy as a smaller one
        threshold = then.null.quantile(now.fires.items / noisier, 0.99)
        found.append(
            Statistic("js_distance", 0.0, distance, math.nan, threshold, distance > threshold)
        )
    return found


def _moved(name: str, then: MeanCounts, now: MeanCounts, least: float, error: float) -> Statistic:
    change = mean_change(then, now)
    drifted = change.p < error and abs(change.now - change.then) >= least
    return Statistic(name, change.then, change.now, change.p, error, drifted)


def _changed(changes: Changes, then: FireCounts, now: FireCounts) -> tuple[ChangedConcept, ...]:
    with np.errstate(divide="ignore"):
        near_C = np.where(changes.ratio_C > 1, np.log(changes.low_C), -np.log(changes.high_C))
    ids = np.flatnonzero(changes.changed_C)
    ordered = ids[np.argsort(-near_C[ids], kind="stable")]
    return tuple(
        ChangedConcept(
            int(c),
            float(changes.ratio_C[c]),
            float(changes.low_C[c]),
            float(changes.high_C[c]),
            float(changes.rate_then_C[c]),
            float(changes.rate_now_C[c]),
            float(changes.q_C[c]),
            _kind(int(then.fires_C[c]), int(now.fires_C[c]), float(changes.ratio_C[c])),
        )
        for c in ordered
    )


def _kind(then: int, now: int, ratio: float) -> Literal["more", "less", "new", "vanished"]:
    if then == 0:
        return "new"
    if now == 0:
        return "vanished"
    return "more" if ratio > 1 else "less"
