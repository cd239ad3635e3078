"""Quiet windows of made traffic: how often Koine and what people run beside it ring falsely.

Every method sees the same windows. Koine counts an item once and knows groups of clients; the
others get every item that was sent, and once more each item once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from benchmarks.entry import Entry, entry
from benchmarks.monitoring.peers import METHODS, dataset_drifted, evidently
from benchmarks.monitoring.traffic import (
    BURSTS,
    CLIENTS,
    INDEPENDENT,
    SINGLE,
    Fires,
    Kind,
    Window,
    long_tailed_rates,
    reference,
    window,
)
from benchmarks.monitoring.values import evidently_values
from koine.drift.alarm import AlarmConfig, alarm
from koine.drift.verdict import DriftConfig, State, Verdict, judge
from koine.profile import StreamProfile

NUM_CONCEPTS = 8192
REFERENCE = 50_000
REFERENCES = 4
"""False alarms of one reference go together, so there are several."""
SIZES = (500, 2000, 10_000)
WINDOWS = 200
MONTH = 720
"""Hourly windows in 30 days; of 2,000 items so many are drawn, each reference's a sequence."""
HOURLY = 2000
VALUED = 4
"""Windows in which columns of activations are scored: a second each."""
CONFIG = DriftConfig()
TARGET = 0.95
"""Least share of quiet windows without a false concept."""


def entries() -> list[Entry]:
    """False alarms by traffic and size, Koine's and others'."""
    sizes = {size: MONTH if size == HOURLY else WINDOWS for size in SIZES}
    artifacts = references(INDEPENDENT)
    found = quiet(INDEPENDENT, sizes, artifacts) + quiet(SINGLE, {HOURLY: WINDOWS}, artifacts)
    for kind in (BURSTS, CLIENTS):
        found += quiet(kind, sizes, references(kind))
    return found


def references(
    kind: Kind, num_concepts: int = NUM_CONCEPTS
) -> Sequence[tuple[Window, StreamProfile]]:
    """Those that windows of the kind are compared with."""
    rates_C = long_tailed_rates(num_concepts, 0)
    return [reference(rates_C, REFERENCE, number, kind) for number in range(REFERENCES)]


def quiet(
    kind: Kind, windows: Mapping[int, int], several: Sequence[tuple[Window, StreamProfile]]
) -> list[Entry]:
    """All figures of one kind of traffic; `windows` of each size."""
    rates_C = long_tailed_rates(len(several[0][1].fires.fires_C), 0)
    seen = {size: _Seen(kind, size) for size in windows}
    for number, (made, profile) in enumerate(several):
        for size, count in windows.items():
            seen[size].sequences.append([])
            for at in range(count // REFERENCES):
                seed = 10_000 + number * MONTH + at
                now = window(rates_C, size, seed, kind)
                seen[size].add(made, profile, now, at < WINDOWS // REFERENCES)
                if at < VALUED // REFERENCES and kind is not SINGLE:
                    seen[size].add_values(made.sent, now.sent, seed)
    return [one for each in seen.values() for one in each.entries()]


class _Seen:
    """What was said of the windows of one size."""

    def __init__(self, kind: Kind, size: int) -> None:
        self.sequences: list[list[Verdict]] = []
        self._kind, self._size = kind, size
        self._rang: Counter[str] = Counter()
        self._peers, self._valued = 0, 0

    def add(self, then: Window, profile: StreamProfile, now: Window, others: bool) -> None:
        self.sequences[-1].append(judge(profile, now.profile(), CONFIG))
        if not others:
            return
        self._peers += 1
        views = {"": (then.sent, now.sent)}
        if self._kind.copies:
            views[" once each"] = (then.different, now.different)
        for view, pair in views.items():
            for name, method in METHODS.items():
                self._rang[name + view] += bool(method(*pair).flagged_C.any())
            self._rang["Evidently, dataset" + view] += dataset_drifted(evidently(*pair))

    def add_values(self, then: Fires, now: Fires, seed: int) -> None:
        found = evidently_values(then, now, seed)
        self._valued += 1
        self._rang["Evidently, activations"] += bool(found.flagged_C.any())
        self._rang["Evidently, activations, dataset"] += dataset_drifted(found)

    def entries(self) -> Iterator[Entry]:
        verdicts = [one for sequence in self.sequences for one in sequence]
        judged = [one for one in verdicts if one.state != "insufficient_data"]
        named = sum(bool(one.concepts) for one in judged) / max(len(judged), 1)
        drifted = sum(one.state == "drift" for one in judged) / max(len(judged), 1)
        about = f"quiet, {self._kind.name}, {self._size} items"
        print(f"{about}: {_reasons(judged)}, {len(verdicts) - len(judged)} without", flush=True)
        for name, count in self._rang.items():
            windows = self._valued if "activations" in name else self._peers
            yield self._entry(f"{about}: false concept / {name}", named, count / windows)
        yield self._entry(f"{about}: verdict `drift` / false concept", drifted, named)
        if self._size == HOURLY:
            yield self._alarms(about)

    def _entry(self, name: str, ours: float, theirs: float) -> Entry:
        unit = "share of windows"
        return entry(name, ours, theirs, ratio=1 - ours, target=TARGET, unit=unit)

    def _alarms(self, about: str) -> Entry:
        """Begun in 720 windows, as sequences went; each `drift` window on its own beside."""
        states: list[list[State]] = [[one.state for one in each] for each in self.sequences]
        windows = sum(len(each) for each in states)
        begun = sum(alarms_begun(each) for each in states) * MONTH / windows
        each = sum(one == "drift" for sequence in states for one in sequence) * MONTH / windows
        return entry(
            f"{about}: false alarms a month, 3 of 4 / every `drift`",
            begun,
            each,
            ratio=1 - begun / MONTH,
            target=None,
            unit="alarms in 720 hourly windows",
        )


def alarms_begun(states: Sequence[State], config: AlarmConfig | None = None) -> int:
    """How often an alarm began as windows came in."""
    config = config or AlarmConfig()
    seen = [alarm(states[: n + 1], config) == "alarm" for n in range(len(states))]
    return sum(now and not before for before, now in zip([False, *seen], seen, strict=False))


def _reasons(judged: Sequence[Verdict]) -> str:
    named = Counter(one.name for verdict in judged for one in verdict.statistics if one.drifted)
    named["concepts"] = sum(bool(verdict.concepts) for verdict in judged)
    dispersion = np.mean([verdict.dispersion for verdict in judged])
    return f"{dict(named)} in {len(judged)}, dispersion {dispersion:.2f}"
