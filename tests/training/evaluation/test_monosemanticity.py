"""Monosemanticity against the double loop over pairs that defines it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from tests.training.evaluation.naive import csr, dense_codes, seeds
from training.evaluation.monosemanticity import chance, monosemanticity, scores

ITEMS, CONCEPTS = 9, 5


def units(seed: int, width: int = 4, items: int = ITEMS) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(items, width)) + 0.5
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def naive(codes_N: np.ndarray, units_ND: np.ndarray) -> float | None:
    above = below = 0.0
    for i in range(len(codes_N)):
        for j in range(i + 1, len(codes_N)):
            weight = float(codes_N[i]) * float(codes_N[j])
            above += weight * float(units_ND[i].astype(float) @ units_ND[j].astype(float))
            below += weight
    return above / below if below else None


@given(seeds())
def test_scores_are_the_weighted_mean_over_all_pairs(seed: int) -> None:
    codes, embeddings = dense_codes(ITEMS, CONCEPTS, seed), units(seed)
    got = scores(csr(codes), embeddings)
    for concept in range(CONCEPTS):
        expected = naive(codes[:, concept], embeddings)
        if expected is None:
            assert np.isnan(got[concept])
        else:
            assert got[concept] == pytest.approx(expected, abs=1e-9)


def test_alike_items_score_one_and_activations_scale_away() -> None:
    same = np.tile(units(0)[:1], (ITEMS, 1))
    codes = dense_codes(ITEMS, CONCEPTS, 3, active=0.9)
    assert scores(csr(codes), same) == pytest.approx(np.ones(CONCEPTS), abs=1e-6)
    mixed = units(1)
    assert scores(csr(codes * 7), mixed) == pytest.approx(scores(csr(codes), mixed))


def test_chance_is_the_mean_similarity_of_two_items() -> None:
    assert chance(units(2)) == pytest.approx(naive(np.ones(ITEMS), units(2)))
    assert chance(units(2)[:1]) is None


@given(seeds())
def test_items_without_a_stream_are_left_out(seed: int) -> None:
    codes = {"x": dense_codes(ITEMS, CONCEPTS, seed), "y": dense_codes(ITEMS, CONCEPTS, seed + 1)}
    embeddings = {"x": units(seed), "y": units(seed + 1, 6)}
    present_NS = np.random.default_rng(seed).random((ITEMS, 2)) < 0.7
    for column, name in enumerate(codes):
        codes[name][~present_NS[:, column]] = 0
        embeddings[name][~present_NS[:, column]] = 0
    got = monosemanticity({name: csr(x) for name, x in codes.items()}, embeddings, present_NS)
    both = present_NS.all(axis=1)
    for key, judge, there in (("own", "x", present_NS[:, 0]), ("other", "y", both)):
        each = [naive(codes["x"][there, c], embeddings[judge][there]) for c in range(CONCEPTS)]
        known = [value for value in each if value is not None]
        assert got["x"][key] == (pytest.approx(np.mean(known), abs=1e-9) if known else None)
