"""The newest verdicts as metrics, by a collector: what is no longer so is no longer shown.

For one process only. At most `MOST_CONCEPTS` series have a concept's name.
"""

from __future__ import annotations

import math
from collections import Counter as Counts
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from koine.drift.segments import ALL
from service.drift.records import DIRECTIONS, Record

MOST_CONCEPTS = 20
STATES = ("ok", "drift", "insufficient_data", "no_reference")
WHERE = ("nowhere", "world", "stream", "unclear")
ALARMS = ("quiet", "warning", "alarm")
"""Each by its number."""

Newest = Mapping[tuple[str, str], Record]
"""By digest and segment."""


class Figures(Collector):
    """A registry of its own, and what is in it."""

    def __init__(self, window_s: int) -> None:
        self.registry = CollectorRegistry()
        self.leader = Gauge(
            "koine_drift_leader", "1 where this process judges", registry=self.registry
        )
        self.runs = Counter(
            "koine_drift_runs_total", "Times that windows were looked at", ["result"],
            registry=self.registry,
        )  # fmt: skip
        self.last_run = Gauge(
            "koine_drift_last_run_timestamp_seconds", "End of the last run without an error",
            registry=self.registry,
        )  # fmt: skip
        Gauge(
            "koine_drift_window_seconds", "Length of a window", registry=self.registry
        ).set(window_s)  # fmt: skip
        for result in ("ok", "error"):
            self.runs.labels(result)
        self._newest: Newest = {}
        self.registry.register(self)

    def show(self, newest: Newest) -> None:
        """These records from now on; none where another process judges."""
        self._newest = dict(newest)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What Prometheus sees of the newest records."""
        whole = [record for (_, segment), record in self._newest.items() if segment == ALL]
        yield from _of_windows(whole)
        yield from _of_streams(whole)
        yield from _concepts(whole)
        yield self._segments()
        yield from _of_pairs(whole)
        yield self._alarms()

    def _segments(self) -> GaugeMetricFamily:
        family = _family("segments", "Segments with a verdict, all traffic aside", "dictionary")
        titles = {record["dictionary"] for record in self._newest.values()}
        for title in sorted(titles):
            count = sum(
                record["dictionary"] == title and segment != ALL
                for (_, segment), record in self._newest.items()
            )
            family.add_metric([title], count)
        return family

    def _alarms(self) -> GaugeMetricFamily:
        family = _family(
            "alarm", "0 quiet, 1 the last window drifted, 2 several did",
            "dictionary", "segment", "stream",
        )  # fmt: skip
        for (_, segment), record in self._newest.items():
            for name, stream in record["streams"].items():
                labels = [record["dictionary"], segment, name]
                family.add_metric(labels, ALARMS.index(stream["alarm"]))
        return family


def _of_windows(records: Sequence[Record]) -> Iterator[GaugeMetricFamily]:
    end = _family("window_end_timestamp_seconds", "End of the newest window judged", "dictionary")
    where = _family("where", "What changed, the world or a stream", "dictionary", "where")
    reference = _family("reference_info", "Always 1", "dictionary", "source")
    for record in records:
        end.add_metric([record["dictionary"]], record["to"])
        for each in WHERE:
            where.add_metric([record["dictionary"], each], float(record["where"] == each))
        reference.add_metric([record["dictionary"], record["reference"]["source"]], 1)
    yield from (end, where, reference)


def _of_streams(records: Sequence[Record]) -> Iterator[GaugeMetricFamily]:
    by_stream = ("dictionary", "stream")
    items = _family("window_items", "Different items of the newest window", *by_stream)
    state = _family("state", "1 for the state of the newest window", *by_stream, "state")
    tested = _family("concepts_tested", "Concepts with enough items to test", *by_stream)
    changed = _family("concepts_changed", "Concepts that changed", *by_stream, "direction")
    dispersion = _family("dispersion", "Items that say what one alone would", *by_stream)
    now = _family("statistic", "A number of the newest window", *by_stream, "statistic")
    then = _family("statistic_reference", "The same of the reference", *by_stream, "statistic")
    moved = _family("statistic_drifted", "Whether it moved", *by_stream, "statistic")
    for record in records:
        for name, stream in record["streams"].items():
            at = [record["dictionary"], name]
            items.add_metric(at, stream["items"])
            for each in STATES:
                state.add_metric([*at, each], float(stream["state"] == each))
            tested.add_metric(at, stream["tested"])
            for direction in DIRECTIONS:
                changed.add_metric([*at, direction], stream["changed"][direction])
            if stream["dispersion"] is not None:
                dispersion.add_metric(at, stream["dispersion"])
            for one in stream["statistics"]:
                _add_statistic([*at, one["name"]], one, now, then, moved)
    yield from (items, state, tested, changed, dispersion, now, then, moved)


def _of_pairs(records: Sequence[Record]) -> Iterator[GaugeMetricFamily]:
    by_pair = ("dictionary", "pair")
    now = _family("agreement", "Mean Jaccard of two streams of the same items", *by_pair)
    then = _family("agreement_reference", "The same of the reference", *by_pair)
    alarm = _family("agreement_alarm", "0 quiet, 1 the last window drifted, 2 several", *by_pair)
    for record in records:
        for pair, one in record["agreement"].items():
            at = [record["dictionary"], pair]
            if one["now"] is not None:
                now.add_metric(at, one["now"])
                then.add_metric(at, one["then"])
            alarm.add_metric(at, ALARMS.index(one["alarm"]))
    yield from (now, then, alarm)


def _concepts(records: Sequence[Record]) -> Iterator[GaugeMetricFamily]:
    ratio = _family(
        "concept_log2_ratio", "By how much the most changed concepts became more frequent",
        "dictionary", "stream", "concept", "label",
    )  # fmt: skip
    truncated = _family(
        "concepts_truncated", "Changed concepts without a series", "dictionary", "stream"
    )
    streams = [
        (record["dictionary"], name, stream)
        for record in records
        for name, stream in record["streams"].items()
    ]
    # streams in turns, each with its most changed first
    longest = max((len(stream["concepts"]) for *_, stream in streams), default=0)
    turns = [
        (title, name, stream["concepts"][rank])
        for rank in range(min(longest, MOST_CONCEPTS))
        for title, name, stream in streams
        if rank < len(stream["concepts"])
    ]
    shown: Counts[tuple[str, str]] = Counts()
    for title, name, one in turns[:MOST_CONCEPTS]:
        shown[title, name] += 1
        labels = [title, name, str(one["id"]), one["label"] or ""]
        ratio.add_metric(labels, math.log2(one["ratio"]))
    for title, name, stream in streams:
        changed = sum(stream["changed"].values())
        truncated.add_metric([title, name], changed - shown[title, name])
    yield from (ratio, truncated)


def _add_statistic(
    at: list[str],
    one: Mapping[str, Any],
    now: GaugeMetricFamily,
    then: GaugeMetricFamily,
    moved: GaugeMetricFamily,
) -> None:
    if one["now"] is not None:
        now.add_metric(at, one["now"])
        then.add_metric(at, one["then"])
    moved.add_metric(at, float(one["drifted"]))


def _family(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"koine_drift_{name}", about, labels=labels)
