"""Finding an item by its codes in another stream, among all held-out items.

Cosine between codes. Ties are broken at random, in expectation: an item whose codes are empty,
or equal to others', scores what a fair draw among the tied would, never more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import csr_array, diags_array
from scipy.special import digamma

from koine.types import ActsND
from training.evaluation.codes import num_items

CUTOFFS = (1, 5, 10)
BLOCK_ENTRIES = 2**24
"""Similarities that are held at once: 128 MiB in float64."""


class Ranks(NamedTuple):
    """Where each query's own item stands among N candidates."""

    better_N: Int64[np.ndarray, "N"]
    """Candidates that are strictly more similar."""
    tied_N: Int64[np.ndarray, "N"]
    """Other candidates that are equally similar."""


def retrieval(
    queries: csr_array | ActsND, candidates: csr_array | ActsND
) -> dict[str, float | None]:
    """R@1, R@5, R@10, median rank and mean reciprocal rank; row i of both is the same item."""
    ranks = ranks_of(queries, candidates)
    if len(ranks.better_N) == 0:
        return dict.fromkeys([*(f"r{k}" for k in CUTOFFS), "medr", "mrr"], None)
    return _figures(ranks)


def standard_error(share: float | None, count: int) -> float | None:
    """Of a share of `count` items that were found: √(p (1 - p) / n)."""
    if share is None or count == 0:
        return None
    return float(np.sqrt(share * (1 - share) / count))


def chance(count: int) -> dict[str, float | None]:
    """The same figures for a random order of `count` candidates."""
    if count == 0:
        return retrieval(csr_array((0, 1)), csr_array((0, 1)))
    return _figures(Ranks(np.zeros(1, np.int64), np.full(1, count - 1)))


def ranks_of(queries: csr_array | ActsND, candidates: csr_array | ActsND) -> Ranks:
    """Rank every candidate for every query, a bounded block of queries at a time."""
    count = len(queries) if isinstance(queries, np.ndarray) else num_items(queries)
    better_N, tied_N = np.zeros(count, np.int64), np.zeros(count, np.int64)
    queries, columns = _unit_rows(queries), _unit_rows(candidates).T
    if not isinstance(columns, np.ndarray):
        columns = csr_array(columns)
    block = max(1, BLOCK_ENTRIES // max(1, count))
    for start in range(0, count, block):
        similar = queries[start : start + block] @ columns
        similar_MN = similar if isinstance(similar, np.ndarray) else similar.toarray()
        rows_M = np.arange(len(similar_MN))
        own_M = similar_MN[rows_M, start + rows_M, None]
        better_N[start : start + block] = (similar_MN > own_M).sum(axis=1)
        tied_N[start : start + block] = (similar_MN == own_M).sum(axis=1) - 1
    return Ranks(better_N, tied_N)


def hits(ranks: Ranks, cutoff: int) -> Float64[np.ndarray, "N"]:
    """How likely each query's own item is among the first `cutoff`, ties drawn fairly."""
    return np.clip((cutoff - ranks.better_N) / (ranks.tied_N + 1), 0, 1)


def _unit_rows(codes: csr_array | ActsND) -> csr_array | Float64[np.ndarray, "N D"]:
    if isinstance(codes, np.ndarray):
        norms_ND = np.linalg.norm(codes.astype(np.float64), axis=1, keepdims=True)
        return codes / np.where(norms_ND > 0, norms_ND, 1.0)
    squares_N = np.asarray(codes.astype(np.float64).power(2).sum(axis=1)).ravel()
    norms_N = np.sqrt(squares_N)
    inverse_N = np.divide(1.0, norms_N, out=np.zeros_like(norms_N), where=norms_N > 0)
    return csr_array(diags_array(inverse_N) @ codes.astype(np.float64))


def _figures(ranks: Ranks) -> dict[str, float | None]:
    better_N, group_N = ranks.better_N, ranks.tied_N + 1
    figures: dict[str, float | None] = {f"r{k}": float(hits(ranks, k).mean()) for k in CUTOFFS}
    figures["medr"] = float(np.median(1 + better_N + ranks.tied_N / 2))
    # mean of 1/r over the ranks better+1 … better+group, by the harmonic numbers' digamma form
    reciprocal_N = (digamma(better_N + group_N + 1) - digamma(better_N + 1)) / group_N
    figures["mrr"] = float(reciprocal_N.mean())
    return figures
