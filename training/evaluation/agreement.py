"""How far two streams activate the same concepts for the same item, and for different items.

Active Jaccard: |A∩B| / |A∪B| over the active concepts of one item in two streams, averaged over
items. Its chance level comes from pairs of different items. Knows supports, no labels.
"""

from __future__ import annotations

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
            self._true[a, b].add(jaccard(codes_a, codes_b))
            self._shuffled[a, b].add(codes_a, codes_b)

    def true(self) -> Figures:
        """Mean Jaccard, keyed "a|b", and "mean" over the pairs."""
        return _with_mean({f"{a}|{b}": mean.value for (a, b), mean in self._true.items()})

    def shuffled(self) -> Figures:
        """The same for pairs of different items: what chance alone gives."""
        return _with_mean({f"{a}|{b}": cycle.value() for (a, b), cycle in self._shuffled.items()})


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
    set_a, set_b = active(codes_a), active(codes_b)
    shared_N = np.asarray(set_a.multiply(set_b).sum(axis=1), np.float64).ravel()
    sizes_N = np.diff(set_a.indptr) + np.diff(set_b.indptr)
    union_N = sizes_N - shared_N
    return np.divide(shared_N, union_N, out=np.full(len(shared_N), np.nan), where=union_N > 0)


def _both(present_NS: PresentNS, streams: tuple[str, ...], a: str, b: str) -> Bool[np.ndarray, "N"]:
    return present_NS[:, streams.index(a)] & present_NS[:, streams.index(b)]


def _with_mean(figures: Figures) -> Figures:
    known = [value for value in figures.values() if value is not None]
    return figures | {"mean": float(np.mean(known)) if known else None}


class _Mean:
    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, values_N: np.ndarray) -> None:
        defined_M = values_N[~np.isnan(values_N)]
        self._sum += float(defined_M.sum())
        self._count += len(defined_M)

    @property
    def value(self) -> float | None:
        return self._sum / self._count if self._count else None


class _Cycle:
    """Mean Jaccard between each row and the one after it, the last being followed by the first."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0
        self._first_b: csr_array | None = None
        self._last_a: csr_array | None = None
        self._rows = 0

    def add(self, codes_a: csr_array, codes_b: csr_array) -> None:
        rows = num_items(codes_a)
        if rows == 0:
            return
        if self._last_a is None:
            self._first_b = codes_b[:1]
            self._count_in(codes_a[:-1], codes_b[1:])
        else:
            self._count_in(csr_array(vstack([self._last_a, codes_a[:-1]])), codes_b)
        self._last_a = codes_a[-1:]
        self._rows += rows

    def _count_in(self, codes_a: csr_array, codes_b: csr_array) -> None:
        values_N = jaccard(codes_a, codes_b)
        self._sum += float(np.nansum(values_N))
        self._count += int((~np.isnan(values_N)).sum())

    def value(self) -> float | None:
        if self._rows < 2:  # one row has no other to be shuffled with
            return None
        assert self._last_a is not None
        assert self._first_b is not None
        closing_N = jaccard(self._last_a, self._first_b)
        count = self._count + int((~np.isnan(closing_N)).sum())
        return (self._sum + float(np.nansum(closing_N))) / count if count else None
