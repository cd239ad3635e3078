"""Several streams of the same made items: is a change of the world told from one of an encoder?

Each stream fires on most items in which the world has a concept, and on a few in which it has not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Literal

import numpy as np

from benchmarks.entry import Entry, entry
from benchmarks.monitoring.traffic import (
    CLIENTS,
    INDEPENDENT,
    Kind,
    long_tailed_rates,
    window,
)
from koine.drift.compare import Where, compare
from koine.drift.counts import FireCounts
from koine.drift.verdict import DriftConfig
from koine.profile import Profile, StreamProfile

NUM_CONCEPTS, REFERENCE, ITEMS, WINDOWS = 2048, 50_000, 2000, 100
SEEN = 0.8
"""Share of the items with a concept in which a stream fires; what it fires on besides keeps its
rate the world's."""
CHANGED = 5
LEAST, MOST = 0.01, 0.03
"""Rates of the concepts that change."""
TIMES = 3.0

Truth = Literal["quiet", "world", "stream"]
RIGHT: dict[Truth, Where] = {"quiet": "nowhere", "world": "world", "stream": "stream"}


def entries() -> list[Entry]:
    """What `where` says of quiet windows, changes of the world and changes of one encoder."""
    rates_C = long_tailed_rates(NUM_CONCEPTS, 0)
    found: list[Entry] = []
    for kind in (INDEPENDENT, CLIENTS):
        for streams in (2, 3):
            then = _profile(rates_C, REFERENCE, 0, kind, streams, {})
            for truth in RIGHT:
                found.append(_told(rates_C, then, kind, streams, truth))
    return found


def _told(rates_C: np.ndarray, then: Profile, kind: Kind, streams: int, truth: Truth) -> Entry:
    seen: Counter[str] = Counter()
    for at in range(WINDOWS):
        rng = np.random.default_rng(at)
        usual = np.flatnonzero((rates_C > LEAST) & (rates_C < MOST))
        times_C = np.ones(len(rates_C))
        times_C[rng.choice(usual, CHANGED, replace=False)] = TIMES
        now = _profile(
            rates_C * times_C if truth == "world" else rates_C,
            ITEMS,
            80_000 + at,
            kind,
            streams,
            {0: times_C} if truth == "stream" else {},
        )
        told = compare(then, now, DriftConfig())
        wrong = told.where == "stream" and told.only != "s0"
        seen["another stream" if wrong else told.where] += 1
    right = seen.pop(RIGHT[truth], 0) / WINDOWS
    print(f"where, {kind.name}, {streams} streams, {truth}: {right}, else {dict(seen)}", flush=True)
    return entry(
        f"where, {kind.name}, {streams} streams, truth {truth}: told so / told wrong",
        right,
        (WINDOWS - seen.pop("unclear", 0)) / WINDOWS - right,
        ratio=right,
        target=None,
        unit="share of windows",
    )


def _profile(
    rates_C: np.ndarray,
    items: int,
    seed: int,
    kind: Kind,
    streams: int,
    encoders: dict[int, np.ndarray],
) -> Profile:
    """`encoders`: by stream, how many times as often it fires as it did."""
    rng = np.random.default_rng(seed + 1)
    world = window(rates_C, items, seed, kind)
    n_B1 = world.items_B[:, None]
    own: dict[str, StreamProfile] = {}
    for number in range(streams):
        seen_BC = rng.binomial(world.fires_BC, SEEN)
        wrong_C = np.minimum((1 - SEEN) * rates_C / (1 - rates_C), 1)
        fires_BC = seen_BC + rng.binomial(n_B1 - world.fires_BC, wrong_C)
        if number in encoders:
            more_C = np.minimum((encoders[number] - 1) * rates_C / (1 - rates_C), 1)
            fires_BC = fires_BC + rng.binomial(n_B1 - fires_BC, more_C)
        counts = FireCounts.of_blocks(fires_BC, world.items_B)
        own[f"s{number}"] = replace(StreamProfile.empty(len(rates_C), 1), fires=counts)
    return Profile("made@1", own)
