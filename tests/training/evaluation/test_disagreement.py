"""Where streams part, against plain loops, on codes whose disagreement is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.training.evaluation.naive import csr
from tests.training.evaluation.stores import write_store
from training.activations import ActivationStore
from training.evaluation.disagreement import MIN_FIRES, disagreement
from training.evaluation.items import HeldOutItems

ITEMS, CONCEPTS = 40, 6


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    return write_store(tmp_path_factory.mktemp("disagreement") / "store", items=ITEMS, streams=2)


@pytest.fixture(scope="module")
def codes() -> dict[str, np.ndarray]:
    """0 and 1 are shared; 2 is alpha's alone; 3 fires in both, never on the same item."""
    alpha, beta = np.zeros((2, ITEMS, CONCEPTS), np.float32)
    alpha[:, 0] = beta[:, 0] = 1
    alpha[:20, 1] = beta[:20, 1] = 2
    alpha[:10, 2] = np.arange(10, 0, -1)
    alpha[20:30, 3] = 3
    beta[30:40, 3] = 3
    beta[39, 4] = alpha[38, 5] = 9
    alpha[7, 0:2] = beta[7, 0:2] = 0  # item 7 shares nothing: alpha has 2 there, beta 4
    beta[7, 4] = 1
    return {"alpha": alpha, "beta": beta}


@pytest.fixture(scope="module")
def pair(small: ActivationStore, codes: dict[str, np.ndarray]) -> dict[str, Any]:
    found = {name: csr(each) for name, each in codes.items()}
    items = HeldOutItems(
        np.arange(ITEMS),
        np.ones((ITEMS, 2), bool),
        ("alpha", "beta"),
        {"joint": found, "independent": found},
        {"joint": {}, "independent": {}},
        {},
    )
    return disagreement(items, small, lambda c: "round" if c == 2 else None)["alpha|beta"]


def test_concepts_are_counted_in_one_stream_in_both_and_apart(pair: dict[str, Any]) -> None:
    assert (pair["items"], pair["nothing_shared"]) == (ITEMS, 1)
    assert pair["in_both"] == 3  # 0, 1 and 3 fire often in both
    # 0 fires on all items but one, in both: chance explains nearly all of it, not quite
    assert pair["other_items"] == 1
    assert pair["only"]["alpha"]["concepts"] == 1
    assert pair["only"]["beta"]["concepts"] == 0
    assert pair["only"]["alpha"]["fire"] == 4


def test_a_streams_own_concept_comes_with_its_strongest_items(
    pair: dict[str, Any], codes: dict[str, np.ndarray]
) -> None:
    (own,) = pair["only"]["alpha"]["examples"]
    assert (own["concept"], own["label"]) == (2, "round")
    assert own["fires"] == int((codes["alpha"][:, 2] > 0).sum()) >= MIN_FIRES
    assert own["other_fires"] == 0
    assert [item["item"] for item in own["items"]] == ["item-0", "item-1", "item-2"]


def test_the_items_that_agree_least_come_first(pair: dict[str, Any]) -> None:
    worst = pair["apart"][0]
    assert (worst["item"], worst["jaccard"], worst["shared"]) == ("item-7", 0.0, [])
    assert [c["concept"] for c in worst["only"]["alpha"]] == [2]
    assert [c["concept"] for c in worst["only"]["beta"]] == [4]
    scores = [item["jaccard"] for item in pair["apart"]]
    assert scores == sorted(scores)


def test_a_report_has_every_pair_and_no_item_twice(report: dict[str, Any]) -> None:
    assert set(report["disagreement"]) == {"alpha|beta", "alpha|gamma", "beta|gamma"}
    shown = [x["item"] for pair in report["disagreement"].values() for x in pair["apart"]]
    assert len(set(shown)) == len(shown)
