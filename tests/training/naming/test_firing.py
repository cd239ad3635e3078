"""Terms from firings: against dense formulas, and on data whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from training.naming.firing import Fit, chances, correlation, fits, shared


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


def fitted(codes: dict[str, csr_array], terms: csr_array, min_fires: int = 10) -> list[Fit]:
    return list(fits(codes, dict.fromkeys(codes, terms), min_fires))


def test_planted_terms_are_found() -> None:
    codes, terms = planted()
    (fit,) = fitted({"a": codes, "b": codes}, terms)
    assert fit.mean_BT.argmax(axis=1)[1:].tolist() == list(range(1, 12))
    assert (fit.mean_BT.max(axis=1)[1:] > 0.8).all()


def test_only_whether_a_concept_fires_counts() -> None:
    codes, terms = planted()
    (fit,) = fitted({"a": codes}, terms)
    (louder,) = fitted({"a": csr_array(codes.multiply(codes))}, terms)
    assert np.array_equal(fit.mean_BT, louder.mean_BT)


def test_a_stream_that_hardly_fires_has_no_say() -> None:
    codes, terms = planted()
    rare = csr_array((np.ones(2), ([3, 4], [2, 2])), shape=codes.shape)
    (fit,) = fitted({"a": codes, "rare": rare}, terms)
    (alone,) = fitted({"a": codes}, terms)
    assert np.array_equal(fit.mean_BT, alone.mean_BT)
    (nothing,) = fitted({"rare": rare}, terms)
    assert not nothing.mean_BT.any()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, terms = planted()
    (whole,) = fitted({"a": codes}, terms)
    monkeypatch.setattr("training.naming.firing.ENTRIES", 5 * 12)
    parts = fitted({"a": codes}, terms)
    assert [part.concepts for part in parts] == [slice(0, 5), slice(5, 10), slice(10, 12)]
    assert np.array_equal(whole.mean_BT, np.concatenate([part.mean_BT for part in parts]))


def test_no_items_fit_nothing() -> None:
    assert correlation(csr_array((0, 3)), csr_array((0, 2))).tolist() == [[0, 0]] * 3


def test_shared_counts_items() -> None:
    codes = csr_array(np.array([[0.5, 0], [0.2, 1], [0, 1]]))
    terms = csr_array(np.array([[1, 0], [1, 0], [0, 1]]))
    assert shared(codes, terms, np.array([0, 1])).tolist() == [2, 1]


def test_chances_are_small_for_planted_terms_and_calibrated_for_shuffled_items() -> None:
    codes, terms = planted()
    names_C = np.arange(12)
    assert chances(codes, terms, names_C)[1:].max() < 1e-30
    rng = np.random.default_rng(1)
    shuffled = [chances(codes[rng.permutation(2000)], terms, names_C)[1:] for _ in range(40)]
    share = float((np.concatenate(shuffled) < 0.05).mean())
    assert 0.01 < share < 0.07
