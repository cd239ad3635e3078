"""The retrieval benchmark: maps find what is linear, Qdrant finds what the product does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.retrieval import Pairs, Search, best, ccas, in_qdrant, recall, ridges
from koine.vectors import sparse_vector

RNG = np.random.default_rng(2)
MAP = RNG.standard_normal((8, 12))


def linear(photos: int, noise: float) -> Pairs:
    """Two captions a photograph; its activations are a linear map of them but for noise."""
    hidden = RNG.standard_normal((photos, 8))
    texts = np.repeat(hidden, 2, axis=0) + noise * RNG.standard_normal((2 * photos, 8))
    return Pairs(texts, {"image": hidden @ MAP}, np.repeat(np.arange(photos), 2))


@pytest.mark.parametrize("searches", [ridges, ccas])
def test_maps_find_what_is_linear_and_nothing_where_nothing_is(
    searches: Callable[[Pairs, str], list[Search]],
) -> None:
    val, test = linear(60, 0.01), linear(60, 0.01)
    search = best(val, "image", searches(linear(400, 0.01), "image"))
    assert recall(search, test, "image").r1 > 0.8
    assert recall(search, linear(60, 100.0), "image").r10 < 0.5


def test_qdrant_finds_equal_codes_first() -> None:
    pytest.importorskip("qdrant_client", reason="make setup installs it")
    flat = np.ones(30)
    vectors = [sparse_vector(RNG.permutation(30)[:5], RNG.gamma(2, 1, 5), flat) for _ in range(20)]
    assert in_qdrant(vectors, vectors, "image") == (1.0, 1.0, 1.0)
    far = in_qdrant(vectors, [*vectors[1:], vectors[0]], "image")
    assert far.r1 == 0.0
