"""Sparse probes: candidates from training rows alone, optimal fits, AUC as it is defined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from tests.training.evaluation.naive import csr, dense_codes, seeds
from training.evaluation import probes
from training.evaluation.probes import (
    PENALTY,
    Coded,
    Labelled,
    auc,
    balance,
    candidates,
    newton,
    probed_labels,
    raw_probe,
    sparse_probes,
)

ROWS, CONCEPTS = 200, 30


def planted(seed: int, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Codes where concept 3 marks label 0, and 4 or 5 mark label 1; label 2 is noise."""
    random = np.random.default_rng(seed)
    codes = dense_codes(rows, CONCEPTS, seed, active=0.2)
    labels = random.random((rows, 3)) < 0.3
    codes[:, 3] = labels[:, 0]
    half = random.random(rows) < 0.5
    codes[:, 4], codes[:, 5] = labels[:, 1] & half, labels[:, 1] & ~half
    return codes, labels


@given(seeds())
@settings(max_examples=20)
def test_candidates_are_the_most_correlated_concepts(seed: int) -> None:
    codes, labels = dense_codes(40, 8, seed), np.random.default_rng(seed).random((40, 2)) < 0.4
    labels[:2] = [[True, False], [False, True]]
    got = candidates(csr(codes), labels, 3)
    for label, chosen in enumerate(got):
        strength = [
            abs(np.corrcoef(column, labels[:, label])[0, 1]) if column.std() else -1.0
            for column in codes.T
        ]
        assert [strength[c] for c in chosen] == pytest.approx(sorted(strength)[::-1][:3])


@given(seeds(), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_newton_reaches_the_minimum_of_the_balanced_loss(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(2, 50, size)), random.random((2, 50)) < 0.3
    y[:, :2] = [True, False]
    got = newton(x, y)
    for problem in range(2):
        features = np.column_stack([x[problem], np.ones(50)])
        weight = balance(y[problem][:, None])[:, 0]
        penalty = np.append(np.full(size, PENALTY), 1e-6)

        def loss(
            beta: np.ndarray,
            features: np.ndarray = features,
            weight: np.ndarray = weight,
            penalty: np.ndarray = penalty,
            truth: np.ndarray = y[problem],
        ) -> float:
            logits = features @ beta
            lost = weight * (np.logaddexp(0, logits) - truth * logits)
            return float(lost.sum() + (penalty * beta**2).sum() / 2)

        best = minimize(loss, np.zeros(size + 1), method="BFGS").fun
        assert loss(got[problem]) == pytest.approx(best, abs=1e-6)


@given(seeds())
def test_auc_is_the_share_of_pairs_in_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, 4, (15, 2)).astype(np.float64)  # few values: many ties
    truth = random.random((15, 2)) < 0.4
    for label, got in enumerate(auc(scores, truth)):
        wins = [
            (a > b) + (a == b) / 2
            for a in scores[truth[:, label], label]
            for b in scores[~truth[:, label], label]
        ]
        assert np.isnan(got) if not wins else got == pytest.approx(np.mean(wins))


def test_probes_find_planted_concepts_and_nothing_in_noise() -> None:
    train, test = (Coded(csr(x), y) for x, y in (planted(1), planted(2)))
    alone = Coded(train.codes, train.labels_NL[:, :1]), Coded(test.codes, test.labels_NL[:, :1])
    assert sparse_probes(*alone)["k1"] == {"balanced_accuracy": 1, "auc": 1}  # pyright: ignore
    pair = Coded(train.codes, train.labels_NL[:, 1:2]), Coded(test.codes, test.labels_NL[:, 1:2])
    found = sparse_probes(*pair)
    assert found is not None
    assert found["k1"]["auc"] < 0.9 < 0.99 < found["k5"]["auc"]
    noise = Coded(train.codes, train.labels_NL[:, 2:]), Coded(test.codes, test.labels_NL[:, 2:])
    found = sparse_probes(*noise)
    assert found is not None
    assert all(abs(found[key]["auc"] - 0.5) < 0.15 for key in ("k1", "k5", "k16"))


def test_concepts_are_chosen_without_the_held_out_rows() -> None:
    (train_x, train_y), (test_x, test_y) = planted(1), planted(2)
    train_y, test_y = train_y[:, :1], test_y[:, :1]
    # concept 3 marks the label on training rows alone, concept 7 on held-out rows alone
    test_x[:, 3], test_x[:, 7] = np.roll(test_x[:, 3], 1), test_y[:, 0]
    found = sparse_probes(Coded(csr(train_x), train_y), Coded(csr(test_x), test_y))
    assert found is not None
    assert abs(found["k1"]["auc"] - 0.5) < 0.15  # concept 7 would score 0 or 1


def test_blocks_of_labels_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = (Coded(csr(x), y) for x, y in (planted(1), planted(2)))
    whole = sparse_probes(train, test)
    monkeypatch.setattr(probes, "BLOCK_ENTRIES", 1)
    cut = sparse_probes(train, test)
    assert whole is not None
    assert cut is not None
    for key in ("k1", "k5", "k16"):
        assert cut[key] == pytest.approx(whole[key])


def test_rare_and_constant_labels_are_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = np.zeros((100, 5), bool), np.zeros((50, 5), bool)
    train[:30, 0] = test[:10, 0] = True
    train[:19, 1] = test[:10, 1] = True  # too few to fit
    train[:30, 2] = test[:4, 2] = True  # too few to score
    train[:, 3] = test[:10, 3] = True  # every row has it
    train[:60, 4] = test[:10, 4] = True
    assert list(probed_labels(train, test)) == [4, 0]
    monkeypatch.setattr(probes, "MAX_LABELS", 1)
    assert list(probed_labels(train, test)) == [4]
    nothing = csr(np.zeros((100, 20), np.float32))
    assert sparse_probes(Coded(nothing, train[:, :0]), Coded(nothing[:50], test[:, :0])) is None


def test_concepts_that_never_fire_leave_probes_at_chance() -> None:
    silent = csr(np.zeros((ROWS, CONCEPTS), np.float32))
    labels = planted(1)[1]
    found = sparse_probes(Coded(silent, labels), Coded(silent, labels))
    assert found is not None
    assert found["k1"] == {"balanced_accuracy": 0.5, "auc": 0.5}


def test_the_raw_probe_reads_a_direction_that_no_single_dimension_holds() -> None:
    random = np.random.default_rng(0)

    def rows(count: int) -> Labelled:
        x = random.normal(size=(count, 12)).astype(np.float32)
        return Labelled(x, np.stack([x.sum(1) > 1, x[:, 0] - x[:, 1] > 1], axis=1))

    found = raw_probe(rows(400), rows(100), rows(200))
    assert found is not None
    assert found["auc"] > 0.97
    assert found["labels"] == 2
    without_val = raw_probe(rows(400), Labelled(rows(1).x_ND[:0], np.zeros((0, 2), bool)), rows(99))
    assert without_val is not None
    assert without_val["penalty"] == probes.RAW_PENALTIES[1]
