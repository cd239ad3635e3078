"""Names from where a concept fires: the term whose items are the concept's items; needs no text
encoder, so it serves every stream.

Soft-WPMI (CLIP-Dissect, Oikarinen and Weng 2023) asks how likely a term makes the top items of a
neuron. Codes are sparse and terms are known or not, so the question has a plain answer: the
correlation of the two over all items, which punishes terms that are everywhere as much as terms
that miss half of the items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.sparse import csr_array
from scipy.stats import hypergeom

from training.evaluation.codes import active, num_items

ENTRIES = 2**23
"""Correlations held at once: 64 MiB in float64, several times over."""


class Fit(NamedTuple):
    """How well terms fit a block of concepts."""

    concepts: slice
    mean_BT: Float64[np.ndarray, "B T"]
    """Correlation of firing and term, mean over the streams in which the concept fires enough;
    0 where it does so in none."""
    by_stream: dict[str, Float64[np.ndarray, "B T"]]


def fits(
    codes: Mapping[str, csr_array], terms: Mapping[str, csr_array], min_fires: int
) -> Iterator[Fit]:
    """`codes`: items × concepts by stream; `terms`: items × terms of the same items, by stream.

    Only whether a concept fires counts. Streams in which it fires on fewer than `min_fires` items
    have no say.
    """
    columns = {name: active(each).tocsc() for name, each in codes.items()}
    num_concepts, num_terms = (_columns(next(iter(each.values()))) for each in (codes, terms))
    block = max(1, ENTRIES // max(1, num_terms))
    for start in range(0, num_concepts, block):
        part = slice(start, min(start + block, num_concepts))
        blocks = {name: csr_array(each[:, part]) for name, each in columns.items()}
        by_stream = {name: correlation(each, terms[name]) for name, each in blocks.items()}
        heard = {name: np.asarray(each.sum(axis=0)) >= min_fires for name, each in blocks.items()}
        yield Fit(part, _mean(by_stream, heard), by_stream)


def correlation(codes: csr_array, terms: csr_array) -> Float64[np.ndarray, "B T"]:
    """Pearson's, over items; 0 where a concept or a term is always or never there."""
    items = num_items(codes)
    if items == 0:
        return np.zeros((_columns(codes), _columns(terms)))
    together_BT = (codes.T @ terms).toarray()
    mean_B, std_B = _moments(codes, items)
    mean_T, std_T = _moments(terms, items)
    covariance_BT = together_BT / items - np.outer(mean_B, mean_T)
    spread_BT = np.outer(std_B, std_T)
    return np.divide(covariance_BT, spread_BT, out=np.zeros_like(spread_BT), where=spread_BT > 0)


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
    return hypergeom.sf(shared(codes, terms, term_C) - 1, items, with_T[term_C], fires_C)


def shared(
    codes: csr_array, terms: csr_array, term_C: Int64[np.ndarray, "C"]
) -> Int64[np.ndarray, "C"]:
    """Items on which each concept fires and that have its term."""
    chosen = terms.tocsc()[:, term_C]
    return np.asarray(active(codes).multiply(chosen).sum(axis=0)).astype(np.int64)


def _mean(
    by_stream: Mapping[str, Float64[np.ndarray, "B T"]], heard: Mapping[str, Bool[np.ndarray, "B"]]
) -> Float64[np.ndarray, "B T"]:
    total_BT = sum(by_stream[name] * heard[name][:, None] for name in by_stream)
    voices_B = np.sum([heard[name] for name in by_stream], axis=0)
    return np.asarray(total_BT) / np.maximum(1, voices_B)[:, None]


def _columns(array: csr_array) -> int:
    assert array.shape is not None
    return int(array.shape[1])


def _moments(columns: csr_array, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column."""
    mean_M = np.asarray(columns.sum(axis=0), np.float64) / items
    square_M = np.asarray(columns.multiply(columns).sum(axis=0), np.float64) / items
    variance_M = square_M - mean_M**2
    # rounding leaves something of a column that is constant
    return mean_M, np.sqrt(np.where(variance_M > 1e-12 * square_M, variance_M, 0))
