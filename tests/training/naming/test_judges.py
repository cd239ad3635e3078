"""The judges of names: on items whose true names are known, and where there is nothing to judge."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from training.activations import Row
from training.naming.judges import borne_out, label_terms, nearly_best, truth
from training.naming.seen import Seen
from training.naming.vocabulary import Term
from training.naming.words import key_of

LABELS = ("dog", "night", "red")
TERMS = [
    Term(text, key_of(text), "caption") for text in ("dogs", "night", "red", "red dog", "a puppy")
]


def seen(items: int = 600) -> Seen:
    """Concept c fires where label c is, in both streams; concept 3 at random, 4 never."""
    rng = np.random.default_rng(0)
    has_NL = rng.random((items, 3)) < (0.2, 0.1, 0.3)
    rows = [
        Row(str(n), (" ".join(np.array(LABELS)[has_L]),), tuple(np.array(LABELS)[has_L]), "test")
        for n, has_L in enumerate(has_NL)
    ]
    random_N1 = rng.random((items, 1)) < 0.2
    fires_NC = np.hstack([has_NL, random_N1, np.zeros((items, 1), bool)])
    values_NC = fires_NC * rng.lognormal(0, 0.5, fires_NC.shape)
    half = np.arange(items // 2)  # the second stream has half of the items
    return Seen(
        np.arange(items),
        rows,
        {"all": np.arange(items), "half": half},
        {
            "all": csr_array(values_NC.astype(np.float32)),
            "half": csr_array(values_NC[half].astype(np.float32)),
        },
    )


def test_the_truth_is_the_label_that_firings_fit() -> None:
    found = truth(seen(), LABELS)
    assert found.label_C[:3].tolist() == [0, 1, 2]
    assert found.fits_C.tolist() == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("term", "label"),
    [("dogs", "dog"), ("a red one", "red"), ("puppy", "dog"), ("red dog", None), ("cat", None)],
)
def test_a_term_says_one_label_or_none(term: str, label: str | None) -> None:
    right_TL = label_terms(
        [Term(term, key_of(term), "caption")], LABELS, {"dog": ("puppy", "hound")}
    )
    assert right_TL[0].tolist() == [label == name for name in LABELS]


def test_true_names_are_borne_out_and_others_are_not() -> None:
    items = seen()
    where = items.where(TERMS, labels=False)
    concept_M = np.arange(3)
    for found in borne_out(items, where, concept_M, concept_M).values():
        assert found is not None
        assert found.concepts == 3
        assert found.precision == found.auc == 1
        assert found.rate == pytest.approx(0.2, abs=0.05)
    for found in borne_out(items, where, np.array([1, 2, 0]), concept_M).values():
        assert found is not None
        assert found.precision == pytest.approx(found.rate, abs=0.08)
        assert found.auc == pytest.approx(0.5, abs=0.08)


def test_what_cannot_be_judged_is_left_out() -> None:
    items = seen()
    where = items.where(TERMS, labels=False)
    never_fires, no_items_term = np.array([4]), np.array([4])
    assert borne_out(items, where, np.array([0]), never_fires) == {"all": None, "half": None}
    assert borne_out(items, where, no_items_term, np.array([0])) == {"all": None, "half": None}


def test_a_name_counts_if_hardly_any_is_better() -> None:
    items = seen()
    where = items.where(TERMS, labels=False)
    assert nearly_best(items, where, np.array([0, 1, 2, 0, 0]))[:3].all()
    assert not nearly_best(items, where, np.array([1, 2, 0, 0, 0]))[:3].any()
