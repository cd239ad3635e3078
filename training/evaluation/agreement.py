"""How far two streams activate the same concepts for the same item, and for different items.

Active Jaccard: |A∩B| / |A∪B| over the active concepts of one item in two streams, averaged over
items; overlap: |A∩B| / |A|, which has a direction and reads as "of ten concepts". Their chance
levels come from pairs of different items. Knows supports, no labels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from scipy.sparse import csr_array, vstack

from koine.types import PresentNS
from training.evaluation.codes import active, num_items, stream_pairs

Figures = dict[str, float | None]


class Agreement:
    """Running means over batches of rows that come in random order.

    A shuffled pair takes the item's first stream and the next row's second stream, the last
    row's partner being the first row: in random order that is one random cycle, so no item meets
    itself, and the result does not depend on where batches are cut.
    """

    def __init__(self, streams: tuple[str, ...]) -> None:
        self._streams = streams
        self._true = {pair: _Mean() for pair in stream_pairs(streams)}
        self._shuffled = {pair: _Cycle() for pair in stream_pairs(streams)}

    def add(self, codes: dict[str, csr_array], present_NS: PresentNS) -> None:
        """Count a batch; a pair leaves out rows that lack one of its streams."""
        for a, b in self._true:
            both_N = _both(present_NS, self._streams, a, b)
            codes_a, codes_b = codes[a][both_N], codes[b][both_N]
            self._true[a, b].add(codes_a, codes_b)
            self._shuffled[a, b].add(codes_a, codes_b)

    def true(self) -> Figures:
        """Mean Jaccard, keyed "a|b", and "mean" over the pairs."""
        return _jaccards(self._true)

    def shuffled(self) -> Figures:
        """The same for pairs of different items: what chance alone gives."""
        return _jaccards(self._shuffled)

    def overlap(self) -> Figures:
        """Mean share of a's active concepts that b has too, keyed "a->b", and "mean"."""
        return _overlaps(self._true)

    def overlap_shuffled(self) -> Figures:
        """The same for pairs of different items."""
        return _overlaps(self._shuffled)


def adjusted(true: Figures, shuffled: Figures) -> Figures:
    """(J - chance) / (1 - chance), key by key: 0 is chance, 1 is full agreement."""
    figures: Figures = {}
    for key, value in true.items():
        chance = shuffled[key]
        if value is None or chance is None or chance == 1:
            figures[key] = None
        else:
            figures[key] = (value - chance) / (1 - chance)
    return figures


def jaccard(codes_a: csr_array, codes_b: csr_array) -> Float64[np.ndarray, "N"]:
    """Jaccard of the supports, item by item; NaN where both are empty."""
    shared_N = _shared(codes_a, codes_b)
    union_N = np.diff(codes_a.indptr) + np.diff(codes_b.indptr) - shared_N
    return np.divide(shared_N, union_N, out=np.full(len(shared_N), np.nan), where=union_N > 0)


def overlap(codes_a: csr_array, codes_b: csr_array) -> Float64[np.ndarray, "N"]:
    """Share of a's active concepts that b has too, item by item; NaN where a has none."""
    shared_N, sizes_N = _shared(codes_a, codes_b), np.diff(codes_a.indptr)
    return np.divide(shared_N, sizes_N, out=np.full(len(shared_N), np.nan), where=sizes_N > 0)


def _shared(codes_a: csr_array, codes_b: csr_array) -> Float64[np.ndarray, "N"]:
    together = active(codes_a).multiply(active(codes_b))
    return np.asarray(together.sum(axis=1), np.float64).ravel()


def _both(present_NS: PresentNS, streams: tuple[str, ...], a: str, b: str) -> Bool[np.ndarray, "N"]:
    return present_NS[:, streams.index(a)] & present_NS[:, streams.index(b)]


def _jaccards(means: Mapping[tuple[str, str], _Mean | _Cycle]) -> Figures:
    return _with_mean({f"{a}|{b}": mean.value().jaccard for (a, b), mean in means.items()})


def _overlaps(means: Mapping[tuple[str, str], _Mean | _Cycle]) -> Figures:
    figures: Figures = {}
    for (a, b), mean in means.items():
        _, figures[f"{a}->{b}"], figures[f"{b}->{a}"] = mean.value()
    return _with_mean(figures)


def _with_mean(figures: Figures) -> Figures:
    known = [value for value in figures.values() if value is not None]
    return figures | {"mean": float(np.mean(known)) if known else None}


class _Shares(NamedTuple):
    """Means over items of |A∩B| by what it is divided by."""

    jaccard: float | None
    of_a: float | None
    of_b: float | None


class _Mean:
    def __init__(self) -> None:
        self._sums, self._counts = np.zeros(3), np.zeros(3, np.int64)

    def add(self, codes_a: csr_array, codes_b: csr_array) -> None:
        """Count items; a share without anything to divide by is left out."""
        shared_N = _shared(codes_a, codes_b)
        sizes_a, sizes_b = np.diff(codes_a.indptr), np.diff(codes_b.indptr)
        under_3N = np.stack([sizes_a + sizes_b - shared_N, sizes_a, sizes_b])
        self._counts += (under_3N > 0).sum(axis=1)
        self._sums += (shared_N / np.maximum(1, under_3N)).sum(axis=1)

    def value(self) -> _Shares:
        pairs = zip(self._sums.tolist(), self._counts.tolist(), strict=True)
        return _Shares(*(total / count if count else None for total, count in pairs))


class _Cycle:
    """Means between each row and the one after it, the last being followed by the first."""

    def __init__(self) -> None:
        self._mean = _Mean()
        self._first_b: csr_array | None = None
        self._last_a: csr_array | None = None
        self._rows = 0

    def add(self, codes_a: csr_array, codes_b: csr_array) -> None:
        rows = num_items(codes_a)
        if rows == 0:
            return
        if self._last_a is None:
            self._first_b = codes_b[:1]
            self._mean.add(codes_a[:-1], codes_b[1:])
        else:
            self._mean.add(csr_array(vstack([self._last_a, codes_a[:-1]])), codes_b)
        self._last_a = codes_a[-1:]
        self._rows += rows

    def value(self) -> _Shares:
        if self._rows < 2:  # one row has no other to be shuffled with
            return _Shares(None, None, None)
        assert self._last_a is not None
        assert self._first_b is not None
        closed = copy.deepcopy(self._mean)
        closed.add(self._last_a, self._first_b)
        return closed.value()
