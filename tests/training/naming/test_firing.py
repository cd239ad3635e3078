"""Terms from firings: against dense formulas, and on data whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from training.naming.firing import best_terms, chances, correlation


def planted(seed: int = 0) -> tuple[csr_array, csr_array]:
    """Concept c fires where term c is, but for a tenth; term 0 is nearly everywhere."""
    rng = np.random.default_rng(seed)
    terms_NT = rng.random((2000, 12)) < 0.08
    terms_NT[:, 0] = rng.random(2000) < 0.9
    codes_NC = terms_NT * rng.lognormal(0, 0.5, terms_NT.shape)
    codes_NC[rng.random(codes_NC.shape) < 0.1] = 0
    noise_NC = (rng.random(codes_NC.shape) < 0.01) * rng.lognormal(0, 0.5, codes_NC.shape)
    return csr_array(codes_NC + noise_NC), csr_array(terms_NT.astype(np.int64))


def test_correlation_is_pearsons() -> None:
    codes, terms = planted()
    dense_CN, dense_TN = codes.toarray().T, terms.toarray().T
    expected = np.corrcoef(dense_CN, dense_TN)[: len(dense_CN), len(dense_CN) :]
    assert correlation(codes, terms) == pytest.approx(expected, abs=1e-9)


def test_columns_that_say_nothing_fit_nothing() -> None:
    codes = csr_array(np.array([[0.1, 0, 1], [0.1, 0, 0], [0.1, 0, 1]]))
    terms = csr_array(np.array([[1, 1], [0, 1], [1, 1]]))
    assert correlation(codes, terms).tolist() == [[0, 0], [0, 0], [pytest.approx(1), 0]]


def test_planted_terms_are_found() -> None:
    codes, terms = planted()
    best = best_terms(codes, terms, most=3)
    assert best.terms_CM[1:, 0].tolist() == list(range(1, 12))
    assert (best.scores_CM[1:, 0] > 0.6).all()
    assert (np.diff(best.scores_CM, axis=1) <= 0).all()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, terms = planted()
    whole = best_terms(codes, terms)
    monkeypatch.setattr("training.naming.firing.BLOCK", 5)
    parts = best_terms(codes, terms)
    assert np.array_equal(whole.terms_CM, parts.terms_CM)
    assert np.array_equal(whole.scores_CM, parts.scores_CM)


def test_chances_are_small_for_planted_terms_and_calibrated_for_shuffled_items() -> None:
    codes, terms = planted()
    names_C = np.arange(12)
    assert chances(codes, terms, names_C)[1:].max() < 1e-30
    rng = np.random.default_rng(1)
    shuffled = [chances(codes[rng.permutation(2000)], terms, names_C)[1:] for _ in range(40)]
    share = float((np.concatenate(shuffled) < 0.05).mean())
    assert 0.01 < share < 0.07
