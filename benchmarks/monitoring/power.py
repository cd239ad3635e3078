"""Windows of made traffic in which some concepts changed: how often each method finds one among
8,192, and how many of those it names first are among those that changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from benchmarks.entry import Entry, entry
from benchmarks.monitoring.peers import METHODS, Fires, dataset_drifted, evidently, psi
from benchmarks.monitoring.traffic import (
    CLIENTS,
    INDEPENDENT,
    Kind,
    Window,
    long_tailed_rates,
    reference,
    window,
)
from benchmarks.monitoring.values import evidently_values
from koine.drift.verdict import DriftConfig, Verdict, judge
from koine.profile import StreamProfile

NUM_CONCEPTS = 8192
REFERENCE, LARGER = 50_000, 200_000
REFERENCES = 4
TRIALS = 200
VALUED = 20
"""Windows in which columns of activations are scored: a second each."""
CONFIG = DriftConfig()
TASKS = ((2000, 3.0), (2000, 1 / 3), (5000, 2.0), (5000, 0.5))
"""Items of a window, and by what the rate of one concept of 1 % is multiplied."""
RATE = 0.01
TARGET = 0.9
NAMED = 20
PRECISION_TRIALS = 48
COMMON = 0.003
"""Concepts that change for precision's sake are active in at least this share of items."""


def entries() -> list[Entry]:
    """Power and precision, items independent and clients alike."""
    rates_C = long_tailed_rates(NUM_CONCEPTS, 0)
    found: list[Entry] = []
    for kind in (INDEPENDENT, CLIENTS):
        references = [
            reference(rates_C, REFERENCE, number, kind, null=False) for number in range(REFERENCES)
        ]
        for items, times in TASKS:
            found += _power(rates_C, references, kind, items, times)
        if kind is INDEPENDENT:
            larger = [reference(rates_C, LARGER, 9, kind, null=False)] * REFERENCES
            found += _power(rates_C, larger, kind, 5000, 2.0)
        for count in (5, 20):
            for items, times in ((2000, 3.0), (5000, 2.0)):
                found += _precision(rates_C, references, kind, items, times, count)
    return found


def _power(
    rates_C: np.ndarray,
    references: list[tuple[Window, StreamProfile]],
    kind: Kind,
    items: int,
    times: float,
) -> Iterator[Entry]:
    hits: Counter[str] = Counter()
    concepts = np.argsort(np.abs(rates_C - RATE))[:TRIALS]
    for trial, concept in enumerate(concepts):
        then, profile = references[trial % REFERENCES]
        changed_C = rates_C.copy()
        changed_C[concept] *= times
        now = window(changed_C, items, 50_000 + trial, kind)
        hits["koine"] += concept in {
            one.id for one in judge(profile, now.profile(), CONFIG).concepts
        }
        for name, method in METHODS.items():
            hits[name] += bool(method(then.sent, now.sent).flagged_C[concept])
        hits["Evidently, dataset"] += dataset_drifted(evidently(then.sent, now.sent))
        if trial < VALUED:
            valued = evidently_values(_at(then.sent, concept), _at(now.sent, concept), trial)
            hits["Evidently, activations"] += bool(valued.flagged_C[0])
    ours = hits.pop("koine") / TRIALS
    target = TARGET if kind is INDEPENDENT and times > 1 else None
    about = f"power, {kind.name}, 1 % concept ×{times:.2g} in {items} items"
    if references[0][0].sent.items == LARGER:
        about += f", reference of {LARGER}"
    for name, count in hits.items():
        theirs = count / (VALUED if "activations" in name else TRIALS)
        yield _entry(f"{about}: koine / {name}", ours, theirs, target, "share of windows")
    print(f"{about}: {ours} beside {dict(hits)}", flush=True)


def _precision(
    rates_C: np.ndarray,
    references: list[tuple[Window, StreamProfile]],
    kind: Kind,
    items: int,
    times: float,
    count: int,
) -> Iterator[Entry]:
    """Share of the first 20 named that changed, and of those that changed that are named."""
    right: Counter[str] = Counter()
    named: Counter[str] = Counter()
    for trial in range(PRECISION_TRIALS):
        then, profile = references[trial % REFERENCES]
        rng = np.random.default_rng(trial)
        chosen = rng.choice(np.flatnonzero(rates_C > COMMON), count, replace=False)
        changed_C = rates_C.copy()
        changed_C[chosen] *= np.where(rng.random(count) < 0.5, times, 1 / times)
        now = window(np.minimum(changed_C, 0.9), items, 60_000 + trial, kind)
        lists = {"koine": _ids(judge(profile, now.profile(), CONFIG))}
        pair = (then.sent, now.sent)
        lists["Evidently"] = np.argsort(-evidently(*pair).score_C)[:NAMED].tolist()
        lists["PSI"] = np.argsort(-psi(*pair).score_C)[:NAMED].tolist()
        lists["z-test, BH"] = _flagged(*pair)
        for name, ids in lists.items():
            right[name] += len(set(ids) & set(chosen.tolist()))
            named[name] += len(ids)
    about = f"precision@{NAMED}, {kind.name}, {count} concepts ×{times:g} or 1/{times:g} in {items}"
    shares = {name: right[name] / max(named[name], 1) for name in named}
    recall = {name: right[name] / (count * PRECISION_TRIALS) for name in named}
    print(f"{about}: {shares}, recall {recall}", flush=True)
    for name in named:
        if name != "koine":
            unit = "share of named that changed"
            yield _entry(f"{about}: koine / {name}", shares["koine"], shares[name], None, unit)
            about_recall = about.replace("precision", "recall")
            unit = "share of changed that are named"
            yield _entry(
                f"{about_recall}: koine / {name}", recall["koine"], recall[name], None, unit
            )


def _at(fires: Fires, concept: int) -> Fires:
    return Fires(fires.items, fires.fires_C[[concept]])


def _ids(verdict: Verdict) -> list[int]:
    return [one.id for one in verdict.concepts[:NAMED]]


def _flagged(then: Fires, now: Fires) -> list[int]:
    found = METHODS["z-test, BH"](then, now)
    order = np.argsort(-found.score_C)
    return [int(c) for c in order[:NAMED] if found.flagged_C[c]]


def _entry(name: str, ours: float, theirs: float, target: float | None, unit: str) -> Entry:
    return entry(name, ours, theirs, ratio=ours, target=target, unit=unit)
