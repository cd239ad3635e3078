"""FVU and NMSE against closed forms, and against the mistakes that others have made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.reconstruction import Reconstruction

WIDTHS = {"a": 4, "b": 6}


def filled(
    units: dict[str, np.ndarray], rebuilt: dict[tuple[str, str], np.ndarray], cuts: list[int]
) -> Reconstruction:
    """Sums over the rows, cut into batches at `cuts`."""
    sums = Reconstruction({name: x.shape[1] for name, x in units.items()})
    count = len(next(iter(units.values())))
    edges = [0, *sorted(cuts), count]
    for start, end in zip(edges, edges[1:], strict=False):
        here = slice(start, end)
        for name, x in units.items():
            sums.add_targets(name, x[here], np.ones(len(x[here]), bool))
        for (source, target), x in rebuilt.items():
            sums.add(source, target, units[target][here], x[here])
    return sums


def example(seed: int, count: int = 20) -> tuple[dict, dict]:
    random = np.random.default_rng(seed)
    units = {}
    for name, d_in in WIDTHS.items():
        x = random.normal(size=(count, d_in)) + 2  # far from the origin: centring matters
        units[name] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    rebuilt = {
        (s, t): (units[t] + random.normal(0, 0.1, units[t].shape)).astype(np.float32)
        for s in units
        for t in units
    }
    return units, rebuilt


@given(st.integers(0, 1000), st.lists(st.integers(0, 20), max_size=4))
def test_fvu_is_the_ratio_of_sums_about_the_whole_splits_mean(seed: int, cuts: list[int]) -> None:
    units, rebuilt = example(seed)
    fvu = filled(units, rebuilt, cuts).fvu()
    for (source, target), x in rebuilt.items():
        exact, guess = units[target].astype(np.float64), x.astype(np.float64)
        expected = ((guess - exact) ** 2).sum() / ((exact - exact.mean(0)) ** 2).sum()
        # float32 activations summed in float64: only the order of the sums differs
        assert fvu[f"{source}->{target}"] == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 1000), st.lists(st.integers(0, 20), max_size=4))
def test_nmse_is_the_mean_of_uncentred_ratios(seed: int, cuts: list[int]) -> None:
    units, rebuilt = example(seed)
    units["a"][3] = 0  # an activation of zeros has no ratio
    nmse = filled(units, rebuilt, cuts).nmse()
    for (source, target), x in rebuilt.items():
        exact, guess = units[target].astype(np.float64), x.astype(np.float64)
        ratios = [
            ((g - e) ** 2).sum() / (e**2).sum()
            for e, g in zip(exact, guess, strict=True)
            if e.any()
        ]
        assert nmse[f"{source}->{target}"] == pytest.approx(np.mean(ratios), rel=1e-9)


def test_the_mean_gives_one_and_the_original_zero() -> None:
    units, _ = example(0)
    mean = np.tile(units["b"].astype(np.float64).mean(0), (20, 1)).astype(np.float32)
    fvu = filled(units, {("a", "b"): mean, ("b", "b"): units["b"]}, [7]).fvu()
    assert fvu["a->b"] == pytest.approx(1, abs=1e-6)  # the mean was rounded to float32
    assert fvu["b->b"] == 0


def test_a_mean_of_per_item_ratios_is_not_fvu() -> None:
    # one item near the mean, badly rebuilt: its own ratio is huge, its share of the sums small
    units = {"a": np.array([[1, 0], [-1, 0], [0.1, 0]], np.float32)}
    rebuilt = units["a"] + np.array([[0.1, 0], [0.1, 0], [0.1, 0]], np.float32)
    fvu = filled(units, {("a", "a"): rebuilt}, []).fvu()["a->a"]
    assert fvu is not None
    centred = ((units["a"] - units["a"].mean(0)) ** 2).sum(1)
    ratios = ((rebuilt - units["a"]) ** 2).sum(1) / centred
    assert fvu == pytest.approx(0.03 / centred.sum(), rel=1e-6)
    assert ratios.mean() > 10 * fvu


def test_rows_without_the_source_count_towards_the_mean_only() -> None:
    units, rebuilt = example(3)
    sums = Reconstruction(WIDTHS)
    sums.add_targets("b", units["b"], np.arange(20) < 15)  # 5 rows lack stream b
    both = slice(0, 10)
    sums.add("a", "b", units["b"][both], rebuilt["a", "b"][both])
    exact = units["b"].astype(np.float64)
    spread = ((exact[both] - exact[:15].mean(0)) ** 2).sum()
    error = ((rebuilt["a", "b"][both].astype(np.float64) - exact[both]) ** 2).sum()
    assert sums.fvu()["a->b"] == pytest.approx(error / spread, rel=1e-9)


def test_nothing_and_a_constant_stream_have_no_fvu() -> None:
    constant = np.tile(np.array([[0.6, 0.8]], np.float32), (50, 1))
    sums = filled({"a": constant}, {("a", "a"): constant + np.float32(0.01)}, [10])
    assert sums.fvu() == {"a->a": None}
    assert Reconstruction({"a": 2}).fvu() == {"a->a": None}
    assert Reconstruction({"a": 2}).nmse() == {"a->a": None}
