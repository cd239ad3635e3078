"""Windows of made traffic whose truth is known: how often each method alarms where nothing
changed, and how often it finds the one concept that did.

Beside Koine's test stand what people run on such counts: a two-sample z-test of each concept with
Benjamini and Hochberg's correction, the population stability index with its usual border of 0.25 on
any concept, and Koine's own test that takes items for independent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.stats import norm

from benchmarks.entry import Entry, entry
from benchmarks.monitoring.traffic import long_tailed_rates, traffic
from koine.drift.changes import ChangeConfig, concept_changes, q_values
from koine.drift.counts import FireCounts, total

NUM_CONCEPTS = 8192
REFERENCE = 50_000
SIZES = (500, 2000, 10_000)
WINDOWS = 200
TRIALS = 50
ALIKE = (0.0, 0.02)
"""Correlation of a client's items: none, and a client that has its own subject."""
CONFIG = ChangeConfig()

Flags = Callable[[FireCounts, FireCounts], np.ndarray]


def koine(then: FireCounts, now: FireCounts) -> np.ndarray:
    """Exact, corrected for blocks."""
    return concept_changes(then, now, CONFIG).changed_C


def independent(then: FireCounts, now: FireCounts) -> np.ndarray:
    """The same, every item a block of its own."""
    return concept_changes(_unblocked(then), _unblocked(now), CONFIG).changed_C


def z_test(then: FireCounts, now: FireCounts) -> np.ndarray:
    """Two proportions, pooled variance, Benjamini-Hochberg."""
    a_C, b_C = then.fires_C / then.items, now.fires_C / now.items
    pooled_C = (then.fires_C + now.fires_C.astype(float)) / (then.items + now.items)
    error_C = np.sqrt(pooled_C * (1 - pooled_C) * (1 / then.items + 1 / now.items))
    z_C = np.divide(b_C - a_C, error_C, out=np.zeros_like(a_C), where=error_C > 0)
    p_C = 2 * norm.sf(np.abs(z_C))
    return q_values(p_C, error_C > 0) <= CONFIG.false_discoveries


def psi(then: FireCounts, now: FireCounts) -> np.ndarray:
    """Population stability index of fires and no fires, with the usual floor of 1e-4."""
    parts = []
    for fires in (1, 0):
        shares = [
            np.clip(c.fires_C / c.items if fires else 1 - c.fires_C / c.items, 1e-4, None)
            for c in (then, now)
        ]
        parts.append((shares[1] - shares[0]) * np.log(shares[1] / shares[0]))
    return parts[0] + parts[1] > 0.25


METHODS: dict[str, Flags] = {
    "koine": koine,
    "independent": independent,
    "z_test": z_test,
    "psi": psi,
}


def entries() -> list[Entry]:
    """False alarms by size and traffic, and power."""
    rates_C = long_tailed_rates(NUM_CONCEPTS, 0)
    found: list[Entry] = []
    for alike in ALIKE:
        then = total([traffic(rates_C, REFERENCE // 5, s, alike=alike) for s in range(5)])
        for items in SIZES:
            found += _quiet(rates_C, then, items, alike)
        found += [_power(rates_C, then, items, 0.01, times, alike) for items, times in TASKS]
    return found


TASKS = ((2000, 3.0), (5000, 2.0))
"""Window and factor by which one concept of 1 % changes."""


def _quiet(rates_C: np.ndarray, then: FireCounts, items: int, alike: float) -> list[Entry]:
    alarms = dict.fromkeys(METHODS, 0)
    for window in range(WINDOWS):
        now = traffic(rates_C, items, 1000 + window, alike=alike)
        for name, flags in METHODS.items():
            alarms[name] += bool(flags(then, now).any())
    shares = {name: count / WINDOWS for name, count in alarms.items()}
    print(f"quiet, {items} items, alike {alike}: {shares}", flush=True)
    worst = {name: share for name, share in shares.items() if name != "koine"}
    return [
        entry(
            f"quiet_windows_{items}_alike{alike:g}_vs_{name}",
            shares["koine"],
            share,
            ratio=1 - shares["koine"],
            target=0.95,
            unit="windows with a false concept",
        )
        for name, share in worst.items()
    ]


def _power(
    rates_C: np.ndarray, then: FireCounts, items: int, rate: float, times: float, alike: float
) -> Entry:
    concept = int(np.abs(rates_C - rate).argmin())
    changed_C = rates_C.copy()
    changed_C[concept] *= times
    hits = dict.fromkeys(METHODS, 0)
    for trial in range(TRIALS):
        now = traffic(changed_C, items, 5000 + trial, alike=alike)
        for name, flags in METHODS.items():
            hits[name] += bool(flags(then, now)[concept])
    power = {name: count / TRIALS for name, count in hits.items()}
    print(f"{rate:.0%} x {times:g} in {items}, alike {alike}: {power}", flush=True)
    return entry(
        f"power_1pct_x{times:g}_in_{items}_alike{alike:g}",
        power["koine"],
        power["z_test"],
        ratio=power["koine"],
        target=0.9 if alike == 0 else None,
        unit="windows that find the concept (z-test)",
    )


def _unblocked(counts: FireCounts) -> FireCounts:
    return replace(
        counts,
        blocks=counts.items,
        block_squares=counts.items,
        block_cubes=counts.items,
        fire_squares_C=counts.fires_C.astype(np.uint64),
        fire_items_C=counts.fires_C.astype(np.uint64),
        largest_C=np.minimum(counts.fires_C, 1),
        largest_items_C=np.minimum(counts.fires_C, 1),
    )
