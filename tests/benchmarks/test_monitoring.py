"""The drift benchmarks: made traffic is what it says, peers' scores are theirs, and on a small
scale Koine stays quiet where they ring."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats

from benchmarks.monitoring import topics, windows
from benchmarks.monitoring.peers import evidently, kolmogorov_smirnov, psi, z_test
from benchmarks.monitoring.traffic import (
    BURSTS,
    CLIENTS,
    INDEPENDENT,
    SINGLE,
    Fires,
    Kind,
    long_tailed_rates,
    reference,
    window,
)
from benchmarks.monitoring.values import score
from koine.codes import PAD
from koine.drift.tally import GROUPS
from koine.drift.verdict import State

RATES_C = long_tailed_rates(400, 1)
THEN = Fires(5000, np.array([50, 500, 0]))
NOW = Fires(700, np.array([20, 60, 3]))
scipy_stats = cast("Any", scipy.stats)
scipy_distance = cast("Any", scipy.spatial.distance)


def column(fires: Fires, concept: int) -> np.ndarray:
    return np.arange(fires.items) < fires.fires_C[concept]


@pytest.mark.parametrize("kind", [INDEPENDENT, BURSTS, CLIENTS])
def test_a_window_has_the_items_it_says(kind: Kind) -> None:
    made = window(RATES_C, 3000, 3, kind)
    assert made.sent.items == 3000
    assert made.different.items <= made.items_B.sum() <= made.sent.items
    assert (made.fires_BC <= made.items_B[:, None]).all()
    assert np.allclose(made.different.fires_C.sum() / made.different.items, RATES_C.sum(), rtol=0.1)


def test_copies_are_counted_once() -> None:
    made = window(RATES_C, 3000, 3, BURSTS)
    assert made.sent.items - made.different.items > 400  # of 600 copies
    assert made.items_B.sum() == made.different.items
    assert (made.fires_BC.sum(0) == made.different.fires_C).all()
    assert window(RATES_C, 3000, 3, INDEPENDENT).different.items == 3000


def test_clients_fall_into_the_services_groups() -> None:
    made, small = (window(RATES_C, items, 3, CLIENTS) for items in (20_000, 500))
    assert len(made.items_B) == GROUPS
    # about one client in each, so that some groups are empty
    assert 5 < len(small.items_B) < GROUPS


def test_codes_of_a_window_have_its_fires() -> None:
    made = window(RATES_C, 500, 3, CLIENTS)
    indices_NK, block_N = made.codes(0)
    counts_BC = np.zeros_like(made.fires_BC)
    for block, row_K in zip(block_N, indices_NK, strict=True):
        active = row_K[row_K != PAD]
        assert len(set(active.tolist())) == len(active)
        counts_BC[block, active] += 1
    assert (counts_BC == made.fires_BC).all()


def test_a_reference_of_single_items_has_no_clients() -> None:
    made, profile = reference(RATES_C, 300, 1, SINGLE, null=False)
    assert profile.fires.blocks == 300
    assert (profile.fires.fires_C == made.fires_BC.sum(0)).all()
    assert profile.fires.largest_C.max() == 1


def test_evidentlys_score_is_jensen_and_shannons() -> None:
    for concept in range(3):
        a, b = (each.fires_C[concept] / each.items for each in (THEN, NOW))
        expected = scipy_distance.jensenshannon([a, 1 - a], [b, 1 - b])
        assert evidently(THEN, NOW).score_C[concept] == pytest.approx(expected)


def test_evidentlys_score_of_activations_is_wassersteins() -> None:
    a, b = np.array([1.0, 2, 4, 1]), np.array([1.0, 3])
    a_N, b_N = np.append(a, np.zeros(46)), np.append(b, np.zeros(8))
    expected = scipy_stats.wasserstein_distance(a_N, b_N) / a_N.std()
    assert score(a, 50, b, 10) == pytest.approx(expected)


def test_ks_and_z_are_scipys() -> None:
    for concept in range(3):
        a_N, b_N = column(THEN, concept), column(NOW, concept)
        p = scipy_stats.ks_2samp(a_N, b_N, method="asymp").pvalue
        assert kolmogorov_smirnov(THEN, NOW).flagged_C[concept] == (p < 0.05)
        table = [[a_N.sum(), (~a_N).sum()], [b_N.sum(), (~b_N).sum()]]
        chi = scipy_stats.chi2_contingency(table, correction=False).pvalue
        assert -z_test(THEN, NOW).score_C[concept] == pytest.approx(chi)


def test_psi() -> None:
    found = psi(Fires(100, np.array([10])), Fires(100, np.array([20])))
    assert found.score_C[0] == pytest.approx(0.1 * np.log(2) - 0.1 * np.log(0.8 / 0.9))


@pytest.mark.parametrize(
    ("states", "begun"),
    [
        (["drift"] * 6, 1),
        (["drift", "ok"] * 4, 0),
        (["drift", "drift", "ok", "drift", "ok", "ok", "drift", "drift", "drift"], 2),
    ],
)
def test_alarms_are_counted_where_they_begin(states: list[State], begun: int) -> None:
    assert windows.alarms_begun(states) == begun


def test_koine_is_quiet_where_others_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "REFERENCE", 10_000)
    monkeypatch.setattr(windows, "VALUED", 0)
    entries = windows.quiet(CLIENTS, {2000: 40}, windows.references(CLIENTS, 1024))
    shares = {one["name"].rpartition(" / ")[2]: (one["ours"], one["baseline"]) for one in entries}
    # 5 % of 40 windows, and what chance makes of it once in a hundred times
    assert shares["z-test, BH"][0] <= 0.1
    assert shares["z-test, BH"][1] > 0.8


@pytest.mark.parametrize("way", topics.WAYS)
def test_windows_of_photographs_share_none_with_their_reference(way: topics.Way) -> None:
    about_N = np.arange(4000) % 16 == 0
    split_N = np.array(["train", "train", "train", "val", "test"] * 800)
    then, now = topics.drawn(about_N, split_N, way, topics.TIMES, 0)
    assert not set(then.tolist()) & set(now.tolist())
    assert len(now) == way.items
    assert about_N[now].mean() == pytest.approx(3 / 16, abs=0.03)
    assert len(set(now.tolist())) == len(now)


def test_quiet_windows_beside_the_artifact_are_of_test_photographs() -> None:
    split_N = np.array(["train", "train", "train", "val", "test"] * 800)
    _, now = topics.drawn(np.zeros(4000, bool), split_N, topics.WAYS[0], 1, 0)
    assert set(split_N[now].tolist()) == {"test"}
