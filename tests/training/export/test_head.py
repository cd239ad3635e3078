"""The head graphs against plain Python on numbers that float32 holds exactly.

Weights are small integers and activations unit vectors, so pre-codes are exact and selection has
one right answer, ties included; only fvu needs a tolerance (float32 sums of some dozen terms).
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koine.codes import PAD, Codes
from koine.heads import Heads
from koine.sessions import CPU
from training.export.head import HeadWeights, head_file, write_heads

D = 5


class Case(NamedTuple):
    weights: dict[str, HeadWeights]
    acts: dict[str, np.ndarray]
    present_NS: np.ndarray
    k: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    num_concepts = draw(st.integers(1, 12))
    k = draw(st.integers(1, num_concepts))
    names = ["a", "b", "c"][: draw(st.integers(1, 3))]
    n = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([1, 2, 9]))
    bias = draw(st.sampled_from([-20, -1, 0, 3]))
    present_NS = rng.random((n, len(names))) < draw(st.sampled_from([0.5, 1.0]))
    weights = {name: integer_weights(rng, num_concepts, spread, bias) for name in names}
    acts = {
        name: np.eye(D, dtype=np.float32)[rng.integers(0, D, n)] * present_NS[:, i, None]
        for i, name in enumerate(names)
    }
    return Case(weights, acts, present_NS, k)


def integer_weights(
    rng: np.random.Generator, num_concepts: int, spread: int, bias: int
) -> HeadWeights:
    def integers(*shape: int) -> np.ndarray:
        return rng.integers(-spread, spread + 1, shape).astype(np.float32)

    return HeadWeights(
        encoder_CD=integers(num_concepts, D),
        latent_bias_C=integers(num_concepts) + np.float32(bias),
        pre_bias_D=integers(D),
        dictionary_CD=integers(num_concepts, D),
        mean_D=integers(D) + np.float32(0.5),
        shift_D=integers(D),
        scale=np.array(2.0, np.float32),
    )


def load(folder: Path, case: Case, *, shared: bool = True) -> Heads:
    write_heads(folder, case.weights, case.k, shared=shared)
    files = {name: head_file(name) for name in case.weights}
    return Heads(folder, files, dict.fromkeys(files, D), [CPU], threads=1)


def pre_codes(w: HeadWeights, u_D: np.ndarray) -> list[float]:
    z_D = (u_D.astype(np.float64) - w.shift_D) * w.scale - w.pre_bias_D
    return [float(row_D @ z_D + b) for row_D, b in zip(w.encoder_CD, w.latent_bias_C, strict=True)]


def top(scores: list[float], k: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda c: (-scores[c], c))[:k]


def expect_row(
    case: Case, name: str, row: int, support: list[int]
) -> tuple[list[int], list[float]]:
    values = pre_codes(case.weights[name], case.acts[name][row])
    active = sorted((c for c in support if values[c] > 0), key=lambda c: (-values[c], c))
    padding = case.k - len(active)
    return active + [PAD] * padding, [values[c] for c in active] + [0.0] * padding


def expect_fvu(w: HeadWeights, u_D: np.ndarray, indices: list[int], values: list[float]) -> float:
    z_D = w.pre_bias_D.astype(np.float64)
    for c, value in zip(indices, values, strict=True):
        z_D = z_D + value * w.dictionary_CD[c] if c != PAD else z_D
    error_D = z_D / w.scale + w.shift_D - u_D
    return float((error_D**2).sum() / ((u_D - w.mean_D) ** 2).sum())


def check_row(case: Case, name: str, row: int, codes: Codes, support: list[int]) -> None:
    indices, values = expect_row(case, name, row, support)
    assert codes.indices_NK[row].tolist() == indices
    assert codes.values_NK[row].tolist() == values
    fvu = expect_fvu(case.weights[name], case.acts[name][row], indices, values)
    assert codes.fvu_N[row] == pytest.approx(fvu, rel=1e-5, abs=1e-6)


SLOW_TO_SET_UP = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_folders = itertools.count()


@SLOW_TO_SET_UP
@given(case=cases())
def test_independent_codes_are_the_streams_own_largest(tmp_path: Path, case: Case) -> None:
    heads = load(tmp_path / str(next(_folders)), case)
    for name, acts_ND in case.acts.items():
        codes = heads.independent(name, acts_ND)
        assert codes.indices_NK.dtype == np.int32
        for row in range(len(acts_ND)):
            scores = pre_codes(case.weights[name], acts_ND[row])
            check_row(case, name, row, codes, top(scores, case.k))


@SLOW_TO_SET_UP
@given(case=cases())
def test_joint_codes_share_the_support_of_the_present_streams(tmp_path: Path, case: Case) -> None:
    codes = load(tmp_path / str(next(_folders)), case).joint(case.acts, case.present_NS)
    for row, here_S in enumerate(case.present_NS):
        present = [name for name, here in zip(case.acts, here_S, strict=True) if here]
        each = [pre_codes(case.weights[name], case.acts[name][row]) for name in present]
        support = top([sum(scores) for scores in zip(*each, strict=True)], case.k)
        for name in case.acts:
            if name in present:
                check_row(case, name, row, codes[name], support)
            else:
                assert (codes[name].indices_NK[row] == PAD).all()
                assert (codes[name].values_NK[row] == 0).all()
                assert np.isnan(codes[name].fvu_N[row])


@SLOW_TO_SET_UP
@given(case=cases())
def test_joint_codes_of_a_local_dictionary_are_each_streams_own(tmp_path: Path, case: Case) -> None:
    codes = load(tmp_path / str(next(_folders)), case, shared=False).joint(
        case.acts, case.present_NS
    )
    for column, name in enumerate(case.acts):
        for row in np.flatnonzero(case.present_NS[:, column]):
            scores = pre_codes(case.weights[name], case.acts[name][row])
            check_row(case, name, int(row), codes[name], top(scores, case.k))


def test_many_rows_run_in_parts(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    weights = {"a": integer_weights(rng, 8, 2, 0), "b": integer_weights(rng, 8, 2, 0)}
    acts = {name: np.eye(D, dtype=np.float32)[rng.integers(0, D, 600)] for name in weights}
    case = Case(weights, acts, np.ones((600, 2), bool), 3)
    heads = load(tmp_path, case)
    alone = heads.independent("a", acts["a"])
    joint = heads.joint(acts, case.present_NS)
    for row in (0, 255, 256, 599):
        one = heads.independent("a", acts["a"][row : row + 1])
        assert one.indices_NK[0].tolist() == alone.indices_NK[row].tolist()
        both = heads.joint({n: a[row : row + 1] for n, a in acts.items()}, np.ones((1, 2), bool))
        assert both["b"].indices_NK[0].tolist() == joint["b"].indices_NK[row].tolist()


def test_no_items_give_no_codes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    case = Case({"a": integer_weights(rng, 8, 2, 0)}, {}, np.ones((0, 1), bool), 3)
    heads = load(tmp_path, case)
    nothing = np.zeros((0, D), np.float32)
    assert heads.independent("a", nothing).indices_NK.shape == (0, 3)
    assert heads.joint({"a": nothing}, case.present_NS)["a"].values_NK.shape == (0, 3)


def test_activations_of_zero_norm_are_encoded(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    case = Case({"a": integer_weights(rng, 8, 2, 5)}, {}, np.ones((1, 1), bool), 3)
    codes = load(tmp_path, case).independent("a", np.zeros((1, D), np.float32))
    assert np.isfinite(codes.values_NK).all()
    assert np.isfinite(codes.fvu_N).all()


def test_an_item_at_the_mean_has_a_finite_fvu(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    weights = integer_weights(rng, 8, 2, 5)
    u_D = np.eye(D, dtype=np.float32)[0]
    flat = HeadWeights(**{**vars(weights), "mean_D": u_D})
    codes = load(tmp_path, Case({"a": flat}, {}, np.ones((1, 1), bool), 3)).independent(
        "a", u_D[None]
    )
    assert np.isfinite(codes.fvu_N).all()
