"""Which term becomes a label: firing chooses, direction confirms, none is better than a wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from training.naming.choose import Proposal, direction_score, firing_score, propose
from training.naming.config import NamingConfig
from training.naming.vocabulary import Term

TERMS = [
    Term("dog", ("dog",), "built-in"),
    Term("hound", ("hound",), "own"),
    Term("red ball", ("red", "ball"), "caption"),
    Term("everywhere", ("everywhere",), "caption"),
]
ITEMS = 600


def proposed(
    fires_N: np.ndarray,
    has_NT: np.ndarray,
    pointed: list[float] | None = None,
    config: NamingConfig | None = None,
) -> Proposal:
    directions = {"text": np.array([pointed], np.float32)} if pointed else {}
    codes = {"a": csr_array(fires_N[:, None].astype(np.float32))}
    where = {"a": csr_array(has_NT.astype(np.int64))}
    (found,) = propose(codes, where, TERMS, directions, config or NamingConfig())
    return found


@pytest.fixture
def has_NT() -> np.ndarray:
    has_NT = np.random.default_rng(0).random((ITEMS, len(TERMS))) < 0.1
    has_NT[:, 1] = False
    has_NT[:, 3] = True
    return has_NT


def test_the_term_of_its_items_names_a_concept(has_NT: np.ndarray) -> None:
    found = proposed(has_NT[:, 2], has_NT)
    assert (found.term, found.source, round(found.score, 2)) == (2, "firing", 0.99)
    assert found.evidence[0].term == "red ball"


def test_direction_confirms_but_does_not_choose(has_NT: np.ndarray) -> None:
    assert proposed(has_NT[:, 0], has_NT, [3, 0, 0, 0]).source == "firing+direction"
    against = proposed(has_NT[:, 0], has_NT, [-1, 0, 4, 0])
    assert (against.term, against.source) == (0, "firing")
    assert against.score == proposed(has_NT[:, 0], has_NT).score


def test_own_terms_win_where_they_fit_alike(has_NT: np.ndarray) -> None:
    has_NT[:, 1] = has_NT[:, 0]
    assert proposed(has_NT[:, 0], has_NT).term == 1


def test_what_fits_nothing_stays_unnamed(has_NT: np.ndarray) -> None:
    at_random_N = np.random.default_rng(1).random(ITEMS) < 0.2
    for fires_N in (at_random_N, np.zeros(ITEMS, bool), np.ones(ITEMS, bool)):
        assert proposed(fires_N, has_NT).term is None


def test_a_fit_that_chance_gives_is_no_name() -> None:
    has_NT = np.zeros((ITEMS, len(TERMS)), bool)
    has_NT[:12, 0] = True
    fires_N = np.zeros(ITEMS, bool)
    fires_N[[0, 1, *range(100, 108)]] = True
    lax = NamingConfig(min_score=0.0, max_chance=1.0)
    strict = NamingConfig(min_score=0.0, max_chance=0.001)
    assert proposed(fires_N, has_NT, config=lax).term == 0
    assert proposed(fires_N, has_NT, config=strict).term is None


def test_direction_alone_never_promises_much(has_NT: np.ndarray) -> None:
    config = NamingConfig(routes="direction", min_score=0.3)
    found = proposed(has_NT[:, 2], has_NT, [20, 0, 0, 0], config)
    assert (found.term, found.source) == (0, "direction")
    assert direction_score(100.0) <= 0.45
    assert firing_score(0.2) < firing_score(0.3) < firing_score(1.0) <= 0.99
