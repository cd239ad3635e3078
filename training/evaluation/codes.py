"""Sparse sets of codes, the form that every metric reads; knows no model and no metric.

A set of codes is a `scipy.sparse.csr_array` of N items by C concepts that stores what is active
(values above 0) and nothing else: N·K entries, never a dense N × C.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Integer
from scipy.sparse import csr_array


def sparse(
    indices_NK: Integer[np.ndarray, "N K"],
    values_NK: Float32[np.ndarray, "N K"],
    num_concepts: int,
) -> csr_array:
    """Top-k codes as a sparse array; entries that select nothing (value 0) are dropped."""
    active_NK = values_NK > 0
    starts = np.concatenate([[0], np.cumsum(active_NK.sum(axis=1))])
    array = csr_array(
        (values_NK[active_NK], indices_NK[active_NK].astype(np.int64), starts.astype(np.int64)),
        shape=(len(values_NK), num_concepts),
    )
    array.sort_indices()
    return array


def active(codes: csr_array) -> csr_array:
    """1 where a concept is active."""
    ones_M = np.ones(codes.nnz, np.int64)
    return csr_array((ones_M, codes.indices, codes.indptr), shape=codes.shape)


def num_items(codes: csr_array) -> int:
    """N."""
    return len(codes.indptr) - 1


def stream_pairs(streams: tuple[str, ...]) -> list[tuple[str, str]]:
    """Every unordered pair of two streams."""
    return [(a, b) for i, a in enumerate(streams) for b in streams[i + 1 :]]
