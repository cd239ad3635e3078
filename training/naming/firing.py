"""Names from where a concept fires: the term whose items are the concept's items; needs no text
encoder, so it serves every stream.

Soft-WPMI (CLIP-Dissect, Oikarinen and Weng 2023) asks how likely a term makes the top items of a
neuron. Codes are sparse and terms are known or not, so the question has a plain answer: the
correlation of the two over all items, which punishes terms that are everywhere as much as terms
that miss half of the items.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy.sparse import csr_array
from scipy.stats import hypergeom

from training.evaluation.codes import active, num_items

BLOCK = 1024
"""Concepts whose correlations with every term are held at once; bounds memory."""


class Best(NamedTuple):
    """The terms that fit each concept best, best first."""

    terms_CM: Int64[np.ndarray, "C M"]
    scores_CM: Float32[np.ndarray, "C M"]
    """Correlation; at most 0 where nothing fits."""


def best_terms(codes: csr_array, terms: csr_array, most: int = 5) -> Best:
    """`codes`: items × concepts, `terms`: items × terms, 1 where an item has the term.

    A concept's strength counts, not only whether it fires.
    """
    num_concepts = _num_columns(codes)
    most = min(most, _num_columns(terms))
    terms_CM = np.zeros((num_concepts, most), np.int64)
    scores_CM = np.zeros((num_concepts, most), np.float32)
    columns = codes.tocsc()
    for start in range(0, num_concepts, BLOCK):
        block = slice(start, min(start + BLOCK, num_concepts))
        fit_BT = correlation(csr_array(columns[:, block]), terms)
        best_BM = np.argsort(-fit_BT, axis=1, kind="stable")[:, :most]
        terms_CM[block] = best_BM
        scores_CM[block] = np.take_along_axis(fit_BT, best_BM, axis=1)
    return Best(terms_CM, scores_CM)


def correlation(codes: csr_array, terms: csr_array) -> Float64[np.ndarray, "B T"]:
    """Pearson's, over items; 0 where a concept or a term is always or never there."""
    items = num_items(codes)
    together_BT = (codes.T @ terms).toarray()
    mean_B, std_B = _moments(codes, items)
    mean_T, std_T = _moments(terms, items)
    covariance_BT = together_BT / items - np.outer(mean_B, mean_T)
    spread_BT = np.outer(std_B, std_T)
    return np.divide(covariance_BT, spread_BT, out=np.zeros_like(spread_BT), where=spread_BT > 0)


def _num_columns(array: csr_array) -> int:
    assert array.shape is not None
    return int(array.shape[1])


def _moments(columns: csr_array, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column."""
    mean_M = np.asarray(columns.sum(axis=0), np.float64) / items
    square_M = np.asarray(columns.multiply(columns).sum(axis=0), np.float64) / items
    variance_M = square_M - mean_M**2
    # rounding leaves something of a column that is constant
    return mean_M, np.sqrt(np.where(variance_M > 1e-12 * square_M, variance_M, 0))


def chances(
    codes: csr_array, terms: csr_array, term_C: Int64[np.ndarray, "C"]
) -> Float64[np.ndarray, "C"]:
    """How likely each concept would fire on so many items of its term, were both independent.

    The hypergeometric tail, exact where a correlation's normal one is far too small for rare
    concepts. It is of one term: multiply by the number of terms that were tried.
    """
    fires = active(codes)
    items, fires_C = num_items(codes), np.asarray(fires.sum(axis=0))
    with_T = np.asarray(terms.sum(axis=0))
    chosen = terms.tocsc()[:, term_C]
    shared_C = np.asarray(fires.multiply(chosen).sum(axis=0))
    return hypergeom.sf(shared_C - 1, items, with_T[term_C], fires_C)
