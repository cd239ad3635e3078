"""What raw activations do without any dictionary: the level that codes are held against.

Retrieval and cross FVU by a linear map fitted on the training rows ("raw-encoder + ridge"),
retrieval by plain cosine where two streams are equally wide, and probes on raw activations.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from scipy.linalg import solve

from koine.types import ActsND, PresentNS
from training.activations import ActivationStore
from training.evaluation.probes import Labelled, raw_probe
from training.evaluation.retrieval import retrieval

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""Ridge penalties, in units of the mean eigenvalue of the source's covariance."""
MAX_ROWS = 50_000
"""Training rows that the maps are fitted on, evenly spread."""
CHUNK_ROWS = 4096


class Units(NamedTuple):
    """Unit-norm activations of N rows, zeros where a row lacks a stream."""

    acts: dict[str, ActsND]
    present_NS: PresentNS


def units_of(store: ActivationStore, rows_N: Int64[np.ndarray, "N"]) -> Units:
    """Read and normalise; a row's first caption stands for it."""
    batch = store.gather(rows_N, None)
    units = {}
    for name, acts_ND in batch.acts.items():
        norms_N = np.linalg.norm(acts_ND, axis=1, keepdims=True)
        units[name] = (acts_ND / np.where(norms_N > 0, norms_N, 1.0)).astype(np.float32)
    return Units(units, batch.present_NS)


def raw_figures(
    store: ActivationStore,
    train_N: Int64[np.ndarray, "N"],
    sample_M: Int64[np.ndarray, "M"],
    probe_P: Int64[np.ndarray, "P"],
) -> dict[str, Any]:
    """`retrieval` and `fvu` keyed "a->b", `probe` keyed by stream.

    `sample_M`: the held-out rows that retrieval and probes are scored on; `probe_P`: the training
    rows that probes are fitted on. Raises nothing: what cannot be measured is None.
    """
    val_N, sample = store.split("val")[:CHUNK_ROWS], units_of(store, sample_M)
    val = units_of(store, val_N)
    found: dict[str, Any] = {"retrieval": {}, "fvu": {}}
    for a, b in permutations(sample.acts, 2):
        held_out_a, held_out_b = _pair(store, sample, a, b)
        linear = _fit(store, train_N, a, b, _pair(store, val, a, b))
        cosine = held_out_a.shape[1] == held_out_b.shape[1]
        found["retrieval"][f"{a}->{b}"] = {
            "ridge": linear and retrieval(linear(held_out_a), linear.centred(held_out_b)),
            "cosine": retrieval(held_out_a, held_out_b) if cosine else None,
        }
        found["fvu"][f"{a}->{b}"] = linear and _fvu(linear, held_out_a, held_out_b)
    train = units_of(store, probe_P)
    found["probe"] = (
        {
            name: raw_probe(
                *(
                    _labelled(store, units, rows_N, name)
                    for units, rows_N in ((train, probe_P), (val, val_N), (sample, sample_M))
                )
            )
            for name in sample.acts
        }
        if store.label_names
        else None
    )
    return found


class _Linear(NamedTuple):
    """b ≈ mean_b + (a - mean_a) · map; answers are about b's mean."""

    mean_a: np.ndarray
    mean_b: np.ndarray
    map_AB: np.ndarray

    def __call__(self, units_NA: np.ndarray) -> np.ndarray:
        return ((units_NA - self.mean_a) @ self.map_AB).astype(np.float32)

    def centred(self, units_NB: np.ndarray) -> np.ndarray:
        return (units_NB - self.mean_b).astype(np.float32)


def _fit(
    store: ActivationStore,
    train_N: np.ndarray,
    a: str,
    b: str,
    val: tuple[np.ndarray, np.ndarray],
) -> _Linear | None:
    """Ridge regression from a to b; its penalty is the best on the validation rows."""
    count, sums_a, sums_b, squares_AA, products_AB = _moments(store, train_N, a, b)
    if count < 2:
        return None
    mean_a, mean_b = sums_a / count, sums_b / count
    covariance_AA = squares_AA / count - np.outer(mean_a, mean_a)
    products_AB = products_AB / count - np.outer(mean_a, mean_b)
    unit = max(float(np.trace(covariance_AA)) / len(covariance_AA), 1e-12)
    best, least = None, np.inf
    for penalty in PENALTIES if len(val[0]) else PENALTIES[1:2]:
        ridge_AA = covariance_AA + penalty * unit * np.eye(len(covariance_AA))
        map_AB = solve(ridge_AA, products_AB, assume_a="pos")
        linear = _Linear(mean_a, mean_b, map_AB)
        error = float(((linear(val[0]) - linear.centred(val[1])) ** 2).sum())
        if error < least:
            best, least = linear, error
    return best


def _moments(
    store: ActivationStore, train_N: np.ndarray, a: str, b: str
) -> tuple[int, Float64[np.ndarray, "A"], Float64[np.ndarray, "B"], np.ndarray, np.ndarray]:
    widths = {stream.name: stream.d_in for stream in store.streams}
    count, sums_a, sums_b = 0, np.zeros(widths[a]), np.zeros(widths[b])
    squares_AA = np.zeros((widths[a], widths[a]))
    products_AB = np.zeros((widths[a], widths[b]))
    for units in _chunks(store, train_N[:: max(1, len(train_N) // MAX_ROWS)]):
        acts_a, acts_b = (x.astype(np.float64) for x in _pair(store, units, a, b))
        count += len(acts_a)
        sums_a += acts_a.sum(axis=0)
        sums_b += acts_b.sum(axis=0)
        squares_AA += acts_a.T @ acts_a
        products_AB += acts_a.T @ acts_b
    return count, sums_a, sums_b, squares_AA, products_AB


def _chunks(store: ActivationStore, rows_N: np.ndarray) -> Iterator[Units]:
    for start in range(0, len(rows_N), CHUNK_ROWS):
        yield units_of(store, rows_N[start : start + CHUNK_ROWS])


def _pair(store: ActivationStore, units: Units, a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
    """Both streams' activations of the rows that have both."""
    names = [stream.name for stream in store.streams]
    both_N = units.present_NS[:, names.index(a)] & units.present_NS[:, names.index(b)]
    return units.acts[a][both_N], units.acts[b][both_N]


def _fvu(linear: _Linear, held_out_a: np.ndarray, held_out_b: np.ndarray) -> float | None:
    centred_ND = held_out_b - held_out_b.mean(axis=0) if len(held_out_b) else held_out_b
    spread = float((centred_ND**2).sum())
    error = float(((linear(held_out_a) - linear.centred(held_out_b)) ** 2).sum())
    return error / spread if spread > 0 else None


def _labelled(store: ActivationStore, units: Units, rows_N: np.ndarray, name: str) -> Labelled:
    column = [stream.name for stream in store.streams].index(name)
    there_N = units.present_NS[:, column]
    return Labelled(units.acts[name][there_N], store.labels(rows_N)[there_N])
