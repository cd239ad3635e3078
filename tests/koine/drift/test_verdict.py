"""Verdicts: states, order, and the words for them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.monitoring.traffic import long_tailed_rates, traffic
from koine.drift.alarm import AlarmConfig, alarm
from koine.drift.counts import FireCounts
from koine.drift.means import MeanCounts
from koine.drift.verdict import DriftConfig, State, agreement_statistic, judge
from koine.drift.words import interval, sentence
from koine.profile import StreamProfile

CONFIG = DriftConfig()
RATES_C = long_tailed_rates(500, 3)
DOG, NIGHT = (int(np.abs(RATES_C - rate).argmin()) for rate in (0.05, 0.01))
LABELS = {DOG: "dog", NIGHT: "night scene"}


def stream(fires: FireCounts, fvu: MeanCounts, l0: MeanCounts) -> StreamProfile:
    """A profile with no more than a verdict needs."""
    return replace(StreamProfile.empty(len(RATES_C), 16), fires=fires, fvu=fvu, l0=l0)


def means(mean: float, items: int, seed: int) -> MeanCounts:
    values_N = np.random.default_rng(seed).normal(mean, 0.1, items)
    return MeanCounts.of(values_N, np.arange(items) // 10)


def window(
    items: int, seed: int, *, fvu: float = 0.4, l0: float = 16, **times: float
) -> StreamProfile:
    rates_C = RATES_C.copy()
    for name, factor in times.items():
        rates_C[{"dog": DOG, "night": NIGHT}[name]] *= factor
    return stream(traffic(rates_C, items, seed), means(fvu, items, seed), means(l0, items, seed))


THEN = window(30_000, 1)


def test_nothing_changed() -> None:
    verdict = judge(THEN, window(3000, 2), CONFIG)
    assert (verdict.state, verdict.concepts) == ("ok", ())
    assert not any(one.drifted for one in verdict.statistics)
    assert "nothing changed" in sentence(verdict, LABELS)


def test_changes_are_named_with_direction_and_rates() -> None:
    verdict = judge(THEN, window(5000, 2, dog=0.3, night=4), CONFIG)
    assert verdict.state == "drift"
    assert {one.id: one.kind for one in verdict.concepts} == {DOG: "less", NIGHT: "more"}
    words = sentence(verdict, LABELS)
    assert "dog ×0.3" in words
    assert "night scene ×" in words
    assert "% → " in words
    low, high = interval(verdict.concepts[0]).removeprefix("×").split(" to ×")
    assert float(low) < float(high)


def test_without_a_label_the_id_stands() -> None:
    verdict = judge(THEN, window(5000, 2, dog=0.2), CONFIG)
    assert sentence(verdict, {}).startswith(f"concept {DOG} ×0.")


@pytest.mark.parametrize("items", [0, 50])
def test_too_few_items_get_no_verdict(items: int) -> None:
    few = (
        window(items, 2, dog=5)
        if items
        else stream(FireCounts.empty(len(RATES_C)), MeanCounts(), MeanCounts())
    )
    verdict = judge(THEN, few, CONFIG)
    assert verdict.state == "insufficient_data"
    assert "needs 200" in sentence(verdict, LABELS)


def test_one_client_is_not_the_world() -> None:
    one = FireCounts.of_blocks(np.full((1, len(RATES_C)), 500), np.array([500]))
    verdict = judge(THEN, stream(one, means(0.4, 500, 1), means(16, 500, 1)), CONFIG)
    assert verdict.state == "insufficient_data"


def test_without_a_reference_there_is_none() -> None:
    assert judge(None, window(3000, 2), CONFIG).state == "no_reference"


@pytest.mark.parametrize(("name", "moved"), [("fvu", {"fvu": 0.5}), ("l0", {"l0": 12})])
def test_inputs_that_leave_the_dictionary(name: str, moved: dict[str, float]) -> None:
    verdict = judge(THEN, window(3000, 2, **moved), CONFIG)
    assert [one.name for one in verdict.statistics if one.drifted] == [name]
    assert name in sentence(verdict, LABELS)


def test_agreement_that_falls() -> None:
    assert agreement_statistic(means(0.4, 3000, 1), means(0.3, 3000, 2), CONFIG).drifted
    assert not agreement_statistic(means(0.4, 3000, 1), means(0.4, 3000, 2), CONFIG).drifted
    assert not agreement_statistic(means(0.4, 3000, 1), MeanCounts(), CONFIG).drifted


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], "quiet"),
        (["drift"], "warning"),
        (["drift", "ok"], "quiet"),
        (["drift", "drift", "ok", "drift"], "alarm"),
        (["drift", "drift", "insufficient_data", "drift"], "alarm"),
        (["drift", "drift", "drift", "ok", "ok"], "quiet"),
        (["drift", "drift", "drift", "insufficient_data"], "alarm"),
    ],
)
def test_alarms_need_persistence(states: list[State], expected: str) -> None:
    assert alarm(states, AlarmConfig()) == expected


def test_an_alarm_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="needed"):
        AlarmConfig(needed=5)


def test_verdicts_on_nothing_tell_no_dispersion() -> None:
    assert math.isnan(judge(None, window(3000, 2), CONFIG).dispersion)
