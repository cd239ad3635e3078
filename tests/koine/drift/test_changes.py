"""Changes are found where they are, and rarely where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from benchmarks.monitoring.traffic import CLIENTS, long_tailed_rates, traffic, window
from koine.drift.changes import ChangeConfig, _tail, concept_changes, could_show, q_values
from koine.drift.counts import FireCounts

CONFIG = ChangeConfig()
RATES_C = long_tailed_rates(2000, 3)
COMMON = int(np.abs(RATES_C - 0.01).argmin())


@given(st.integers(0, 30), st.integers(0, 60), st.integers(1, 999))
def test_tail_is_the_binomial_one(now: int, then: int, items: int) -> None:
    ours = _tail(*(np.array([float(v)]) for v in (then, 1000, now, items)))[0]
    assert ours == pytest.approx(binom.sf(now - 1, now + then, items / (1000 + items)), rel=1e-9)


def test_q_values_are_benjamini_and_hochbergs() -> None:
    p_C = np.array([0.01, 0.9, 0.02, 0.04, 0.5])
    tested_C = np.array([True, True, True, True, False])
    expected = [0.04, 0.9, 0.04, 0.04 * 4 / 3, 1]
    assert q_values(p_C, tested_C).tolist() == pytest.approx(expected)


def test_hypotheses_that_no_outcome_could_show_are_left_out() -> None:
    # of these, two reach .05 / 2, and three do not reach .05 / 3
    least_H = np.array([0.9, 1e-9, 0.02, 0.04, 0.6])
    assert could_show(least_H, 0.05).tolist() == [False, True, True, False, False]
    assert could_show(np.array([0.01, 0.02]), 0.05).all()
    assert not could_show(np.array([0.9, 0.9]), 0.05).any()


def test_falls_that_could_not_be_shown_cost_rises_nothing() -> None:
    # of 13 fires, a tenth in the window by chance: none there is no sign of a fall
    then_BC = np.repeat((np.arange(300) < 12)[:, None], 501, axis=1)
    then = FireCounts.of_blocks(then_BC.astype(np.int64), np.full(300, 10))
    now_BC = np.repeat((np.arange(30) < 1)[:, None], 501, axis=1)
    now_BC[:10, 0] = True
    now = FireCounts.of_blocks(now_BC.astype(np.int64), np.full(30, 10))
    changes = concept_changes(then, now, CONFIG)
    one_sided = changes.p_C[0] / 2
    assert changes.q_C[0] == pytest.approx(one_sided * 501, rel=1e-6)


@pytest.mark.parametrize("alike", [0.0, 0.02])
def test_quiet_windows_are_quiet(alike: float) -> None:
    then = traffic(RATES_C, 30_000, 5, alike=alike)
    false = [
        concept_changes(then, traffic(RATES_C, 1000, 100 + w, alike=alike), CONFIG).changed_C.any()
        for w in range(40)
    ]
    # 5 % of windows: 7 or more of 40 happen once in 200 runs, and the seeds are fixed
    assert sum(false) <= 6


def test_large_groups_of_clients_do_not_hide_how_alike_one_is() -> None:
    then, *windows = (
        window(RATES_C, items, seed, CLIENTS).profile().fires
        for seed, items in enumerate([50_000] + [2000] * 20)
    )
    assert (
        then.items > 20 * then.blocks
    )  # of the reference; a window has one or two clients a group
    false = [concept_changes(then, now, CONFIG).changed_C.any() for now in windows]
    # 5 % of windows: 4 or more of 20 happen once in 60 runs, and the seeds are fixed
    assert sum(false) <= 3


@pytest.mark.parametrize(("factor", "kind"), [(4.0, 1), (0.1, -1)])
def test_one_changed_concept_is_found(factor: float, kind: int) -> None:
    then = traffic(RATES_C, 30_000, 5)
    rates_C = RATES_C.copy()
    rates_C[COMMON] *= factor
    changes = concept_changes(then, traffic(rates_C, 4000, 6), CONFIG)
    assert np.flatnonzero(changes.changed_C).tolist() == [COMMON]
    assert np.sign(np.log(changes.ratio_C[COMMON])) == kind
    assert changes.low_C[COMMON] < factor < changes.high_C[COMMON]


def test_one_clients_burst_is_no_change() -> None:
    quiet = traffic(RATES_C, 30_000, 5)
    fires_BC = np.zeros((1, len(RATES_C)), np.int64)
    fires_BC[0, COMMON] = 200
    now = traffic(RATES_C, 2000, 6)
    burst = now + FireCounts.of_blocks(fires_BC, np.array([200]))
    assert not concept_changes(quiet, burst, CONFIG).changed_C[COMMON]


def test_what_was_never_seen_can_be_new() -> None:
    rates_C = RATES_C.copy()
    rates_C[7] = 0
    then = traffic(rates_C, 30_000, 5)
    rates_C[7] = 0.02
    changes = concept_changes(then, traffic(rates_C, 2000, 6), CONFIG)
    assert changes.changed_C[7]
    assert (changes.rate_then_C[7], changes.high_C[7]) == (0, np.inf)


def test_small_changes_are_none_however_sure() -> None:
    then, now = traffic(RATES_C, 300_000, 5), traffic(RATES_C * 1.3, 300_000, 6)
    changed_C = concept_changes(then, now, CONFIG).changed_C
    assert not changed_C[RATES_C > 0.005].any()  # the ratio of rarer ones is uncertain itself


def test_what_fires_too_rarely_is_not_tested() -> None:
    then = FireCounts.of_blocks(np.array([[9, 0]] + [[0, 0]] * 5), np.full(6, 100))
    now = FireCounts.of_blocks(np.array([[0, 0]] * 5), np.full(5, 100))
    changes = concept_changes(then, now, CONFIG)
    assert not changes.tested_C.any()
    assert changes.p_C.tolist() == [1, 1]


@pytest.mark.parametrize(
    "bad", [{"false_discoveries": 0.0}, {"interval": 1.0}, {"least_ratio": 0.5}]
)
def test_configurations_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ChangeConfig(**bad)  # pyright: ignore[reportArgumentType]
