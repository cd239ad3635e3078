"""Retrieval against a full sort with every order of ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.evaluation.naive import csr, dense_codes, expected_ranks, seeds
from training.evaluation import retrieval as module
from training.evaluation.retrieval import chance, ranks_of, retrieval, standard_error


@given(seeds(), st.integers(1, 15), st.integers(1, 6))
def test_figures_are_the_expectation_over_all_orders_of_ties(
    seed: int, items: int, concepts: int
) -> None:
    queries = dense_codes(items, concepts, seed, levels=1)
    candidates = dense_codes(items, concepts, seed + 1, levels=1)
    got = retrieval(csr(queries), csr(candidates))
    ranks = expected_ranks(queries, candidates)
    for k in (1, 5, 10):
        hits = [np.mean([rank <= k for rank in each]) for each in ranks]
        assert got[f"r{k}"] == pytest.approx(np.mean(hits))
    assert got["medr"] == pytest.approx(np.median([np.mean(each) for each in ranks]))
    reciprocal = [np.mean([1 / rank for rank in each]) for each in ranks]
    assert got["mrr"] == pytest.approx(np.mean(reciprocal))


@given(seeds(), st.integers(2, 12))
def test_blocks_of_any_size_give_the_same(seed: int, block: int) -> None:
    queries, candidates = csr(dense_codes(12, 8, seed)), csr(dense_codes(12, 8, seed + 1))
    whole = ranks_of(queries, candidates)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_ENTRIES", block * 12)
        cut = ranks_of(queries, candidates)
    np.testing.assert_array_equal(whole.better_N, cut.better_N)
    np.testing.assert_array_equal(whole.tied_N, cut.tied_N)


def test_equal_codes_find_themselves() -> None:
    codes = csr(np.eye(6, dtype=np.float32) + 0.1)
    assert retrieval(codes, codes) == {"r1": 1, "r5": 1, "r10": 1, "medr": 1, "mrr": 1}


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_codes_that_say_nothing_score_chance_not_success(value: float) -> None:
    same = csr(np.full((40, 5), value, np.float32))
    assert retrieval(same, same) == pytest.approx(chance(40))


def test_chance_is_a_uniform_rank() -> None:
    got = chance(20)
    assert got["r1"] == pytest.approx(1 / 20)
    assert got["r5"] == pytest.approx(5 / 20)
    assert got["medr"] == 10.5
    assert got["mrr"] == pytest.approx(sum(1 / rank for rank in range(1, 21)) / 20)
    assert chance(3)["r5"] == 1


def test_length_of_codes_does_not_matter() -> None:
    queries, candidates = dense_codes(30, 9, 5), dense_codes(30, 9, 6)
    longer = candidates * np.random.default_rng(0).uniform(1, 9, (30, 1))
    # powers of two scale exactly, others may split a tie by rounding: compare the mean rank
    assert retrieval(csr(queries * 4), csr(candidates)) == retrieval(csr(queries), csr(candidates))
    assert retrieval(csr(queries), csr(longer))["mrr"] == pytest.approx(
        retrieval(csr(queries), csr(candidates))["mrr"], abs=0.02
    )


def test_no_items_is_null() -> None:
    assert set(chance(0).values()) == {None}


@given(seeds())
def test_dense_activations_rank_as_sparse_codes_do(seed: int) -> None:
    # distinct real values: no ties that rounding could split
    random = np.random.default_rng(seed)
    queries, candidates = random.normal(size=(2, 12, 5)).astype(np.float32)
    queries[3] = 0  # an activation of zeros is tied with everything
    dense, sparse = ranks_of(queries, candidates), ranks_of(csr(queries), csr(candidates))
    np.testing.assert_array_equal(dense.better_N, sparse.better_N)
    np.testing.assert_array_equal(dense.tied_N, sparse.tied_N)
    assert dense.tied_N[3] == 11


def test_standard_error_is_the_binomial_one() -> None:
    hits = np.random.default_rng(0).random((20_000, 50)) < 0.3
    # a standard deviation of 20,000 draws is known to 1 / √40,000 = 0.5 %
    assert standard_error(0.3, 50) == pytest.approx(hits.mean(axis=1).std(), rel=0.02)
    assert standard_error(None, 50) is None
    assert standard_error(0.3, 0) is None
