"""Active Jaccard and its chance level against Python sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.evaluation.naive import csr, dense_codes, jaccard, mean, seeds, support
from training.evaluation.agreement import Agreement, Figures, adjusted

STREAMS = ("x", "y", "z")


def example(seed: int, items: int = 12, concepts: int = 6) -> tuple[dict, np.ndarray]:
    dense = {name: dense_codes(items, concepts, seed + i) for i, name in enumerate(STREAMS)}
    present_NS = np.random.default_rng(seed).random((items, 3)) < 0.8
    for column, name in enumerate(STREAMS):
        dense[name][~present_NS[:, column]] = 0
    return dense, present_NS


def agreement(dense: dict, present_NS: np.ndarray, cuts: list[int]) -> Agreement:
    sums = Agreement(STREAMS)
    edges = [0, *sorted(cuts), len(present_NS)]
    for start, end in zip(edges, edges[1:], strict=False):
        batch = {name: csr(x[start:end]) for name, x in dense.items()}
        sums.add(batch, present_NS[start:end])
    return sums


def cuts() -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, 12), max_size=5)


@given(seeds(), cuts())
def test_active_jaccard_is_the_mean_over_items_of_the_sets(seed: int, cuts: list[int]) -> None:
    dense, present_NS = example(seed)
    got = agreement(dense, present_NS, cuts).true()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        a, b = STREAMS[i], STREAMS[j]
        both = np.flatnonzero(present_NS[:, i] & present_NS[:, j])
        expected = mean([jaccard(support(dense[a][n]), support(dense[b][n])) for n in both])
        assert got[f"{a}|{b}"] == pytest.approx(expected)
    assert got["mean"] == pytest.approx(mean([v for k, v in got.items() if k != "mean"]))


@given(seeds(), cuts())
def test_shuffled_pairs_are_each_item_with_the_next(seed: int, cuts: list[int]) -> None:
    dense, present_NS = example(seed)
    got = agreement(dense, present_NS, cuts).shuffled()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        a, b = STREAMS[i], STREAMS[j]
        both = np.flatnonzero(present_NS[:, i] & present_NS[:, j])
        pairs = list(zip(both, np.roll(both, -1), strict=True)) if len(both) > 1 else []
        assert all(n != m for n, m in pairs)
        expected = mean([jaccard(support(dense[a][n]), support(dense[b][m])) for n, m in pairs])
        assert got[f"{a}|{b}"] == pytest.approx(expected)


def test_items_with_two_empty_supports_are_left_out_and_one_empty_one_counts_zero() -> None:
    x = np.array([[1, 0], [0, 0], [0, 0]], np.float32)
    y = np.array([[2, 0], [0, 0], [0, 3]], np.float32)
    sums = Agreement(("x", "y"))
    sums.add({"x": csr(x), "y": csr(y)}, np.ones((3, 2), bool))
    assert sums.true() == {"x|y": 0.5, "mean": 0.5}


def test_nothing_to_compare_is_null_not_nan() -> None:
    sums = Agreement(("x", "y"))
    sums.add({"x": csr(np.zeros((2, 2))), "y": csr(np.zeros((2, 2)))}, np.ones((2, 2), bool))
    assert sums.true() == {"x|y": None, "mean": None}
    assert sums.shuffled() == {"x|y": None, "mean": None}
    assert adjusted(sums.true(), sums.shuffled()) == {"x|y": None, "mean": None}
    assert Agreement(("x",)).true() == {"mean": None}


def test_a_single_item_has_no_chance_level() -> None:
    sums = Agreement(("x", "y"))
    one = csr(np.ones((1, 3)))
    sums.add({"x": one, "y": one}, np.ones((1, 2), bool))
    assert sums.true()["x|y"] == 1
    assert sums.shuffled()["x|y"] is None


@given(seeds())
def test_values_do_not_matter_only_which_concepts_are_active(seed: int) -> None:
    dense, present_NS = example(seed)
    other = {name: x * 7.5 for name, x in dense.items()}
    assert agreement(dense, present_NS, []).true() == agreement(other, present_NS, []).true()


def test_adjusted_is_zero_at_chance_and_one_at_full_agreement() -> None:
    true: Figures = {"x|y": 0.3, "x|z": 1.0, "y|z": 0.2, "mean": 0.5}
    shuffled: Figures = {"x|y": 0.3, "x|z": 0.4, "y|z": 1.0, "mean": 0.25}
    got = adjusted(true, shuffled)
    assert got == {"x|y": 0.0, "x|z": 1.0, "y|z": None, "mean": pytest.approx(1 / 3)}


def test_chance_of_random_supports_matches_the_unrelated_true_pairs() -> None:
    # independent random supports: true pairs are no better than shuffled ones
    dense = {"x": dense_codes(4000, 20, 1), "y": dense_codes(4000, 20, 2)}
    sums = Agreement(("x", "y"))
    sums.add({name: csr(x) for name, x in dense.items()}, np.ones((4000, 2), bool))
    # standard error of a mean of 4,000 Jaccards (spread about .12) is .002
    assert sums.true()["x|y"] == pytest.approx(sums.shuffled()["x|y"], abs=0.01)


@given(seeds(), cuts())
def test_overlap_is_the_share_of_each_streams_set(seed: int, cuts: list[int]) -> None:
    dense, present_NS = example(seed)
    sums = agreement(dense, present_NS, cuts)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        a, b = STREAMS[i], STREAMS[j]
        both = np.flatnonzero(present_NS[:, i] & present_NS[:, j])
        others = np.roll(both, -1) if len(both) > 1 else []
        for got, partners in ((sums.overlap(), both), (sums.overlap_shuffled(), others)):
            pairs = list(zip(both, partners, strict=False))
            sets = [(support(dense[a][n]), support(dense[b][m])) for n, m in pairs]
            of_a = mean([len(x & y) / len(x) for x, y in sets if x])
            of_b = mean([len(x & y) / len(y) for x, y in sets if y])
            assert got[f"{a}->{b}"] == pytest.approx(of_a)
            assert got[f"{b}->{a}"] == pytest.approx(of_b)
