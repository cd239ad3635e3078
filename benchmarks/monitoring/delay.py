"""Hourly windows of made traffic, quiet until the middle of the series: how many windows pass until
a change is told, by Koine's verdict, by its alarm, and by Evidently.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.entry import Entry, entry
from benchmarks.monitoring.peers import dataset_drifted, evidently, kolmogorov_smirnov, psi
from benchmarks.monitoring.traffic import (
    CLIENTS,
    INDEPENDENT,
    Kind,
    Window,
    long_tailed_rates,
    reference,
    window,
)
from koine.drift.alarm import AlarmConfig, alarm
from koine.drift.verdict import DriftConfig, State, judge
from koine.profile import StreamProfile

NUM_CONCEPTS, REFERENCE, ITEMS = 8192, 50_000, 2000
RUNS, REFERENCES = 24, 2
BEFORE, AFTER = 6, 12
"""Windows until the change, and from then on."""
COMMON = 0.005
"""Concepts that change are active in at least this share of items."""
CHANGES = ((5, 3.0), (50, 1.5))
"""How many concepts become how much more frequent."""


def entries() -> list[Entry]:
    """Windows until told, items independent and clients alike."""
    rates_C = long_tailed_rates(NUM_CONCEPTS, 0)
    found: list[Entry] = []
    for kind in (INDEPENDENT, CLIENTS):
        references = [reference(rates_C, REFERENCE, n, kind) for n in range(REFERENCES)]
        for count, times in CHANGES:
            found += _delays(rates_C, references, kind, count, times)
    return found


def _delays(
    rates_C: np.ndarray,
    references: list[tuple[Window, StreamProfile]],
    kind: Kind,
    count: int,
    times: float,
) -> Iterator[Entry]:
    told: list[dict[str, int]] = []
    for run in range(RUNS):
        rng = np.random.default_rng(run)
        changed_C = rates_C.copy()
        chosen = rng.choice(np.flatnonzero(rates_C > COMMON), count, replace=False)
        changed_C[chosen] *= times
        series = [rates_C] * BEFORE + [changed_C] * AFTER
        windows = [window(r_C, ITEMS, 70_000 + 100 * run + n, kind) for n, r_C in enumerate(series)]
        told.append(_first(*references[run % REFERENCES], windows))
    about = f"delay, {kind.name}, {count} concepts ×{times:g}, windows of {ITEMS}"
    means = {name: float(np.mean([one[name] for one in told])) for name in told[0]}
    missed = {name: sum(one[name] > AFTER for one in told) for name in told[0]}
    print(f"{about}: {means}; never {missed} of {RUNS}", flush=True)
    for ours in ("verdict", "alarm"):
        for theirs in means:
            if theirs not in ("verdict", "alarm"):
                yield entry(
                    f"{about}: koine's {ours} / {theirs}",
                    means[ours],
                    means[theirs],
                    ratio=means[theirs] / means[ours],
                    target=None,
                    unit=f"windows, {AFTER + 1}: not told",
                )


def _first(then: Window, profile: StreamProfile, windows: list[Window]) -> dict[str, int]:
    """By method, the how many-th window of the change was the first to be told."""
    states: list[State] = [judge(profile, one.profile(), DriftConfig()).state for one in windows]
    config = AlarmConfig()
    pairs = [(then.sent, one.sent) for one in windows]
    rang = {
        "verdict": [state == "drift" for state in states],
        "alarm": [alarm(states[: n + 1], config) == "alarm" for n in range(len(states))],
        "Evidently, any column": [bool(evidently(*pair).flagged_C.any()) for pair in pairs],
        "Evidently, dataset": [dataset_drifted(evidently(*pair)) for pair in pairs],
        "PSI > .25, any column": [bool(psi(*pair).flagged_C.any()) for pair in pairs],
        "KS, any column": [bool(kolmogorov_smirnov(*pair).flagged_C.any()) for pair in pairs],
    }
    return {name: [*each[BEFORE:], True].index(True) + 1 for name, each in rang.items()}
