"""Slow, plain metrics on Python sets and loops: what the fast ones are held against."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st
from scipy.sparse import csr_array


def dense_codes(
    items: int, concepts: int, seed: int, *, active: float = 0.3, levels: int = 3
) -> np.ndarray:
    """Random codes with few distinct values, so that ties and empty rows occur."""
    random = np.random.default_rng(seed)
    values = random.integers(1, levels + 1, (items, concepts)).astype(np.float32)
    return values * (random.random((items, concepts)) < active)


def seeds() -> st.SearchStrategy[int]:
    return st.integers(0, 2**32 - 1)


def jaccard(set_a: set[int], set_b: set[int]) -> float | None:
    return len(set_a & set_b) / len(set_a | set_b) if set_a | set_b else None


def support(row: np.ndarray) -> set[int]:
    return {concept for concept, value in enumerate(row) if value > 0}


def mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return round(float(a @ b / norms), 12) if norms else 0.0


def expected_ranks(queries: np.ndarray, candidates: np.ndarray) -> list[list[int]]:
    """For each query the ranks its own item may take, all equally likely."""
    ranks = []
    for row, query in enumerate(queries):
        similar = [cosine(query, candidate) for candidate in candidates]
        better = sum(value > similar[row] for value in similar)
        tied = sum(value == similar[row] for value in similar)
        ranks.append([better + place for place in range(1, tied + 1)])
    return ranks


def csr(dense: np.ndarray) -> csr_array:
    return csr_array(dense)
